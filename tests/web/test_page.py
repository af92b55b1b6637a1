"""The page over HTTP: what is on it and what is not, whatever is asked for, and with nobody to run its script."""

import asyncio
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import event

from sync.web.page import kept, routes
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror
from tests.support.postgres import database_of
from tests.support.proxy import Proxy

from .helpers import serving
from .page_states import STATES

MOST_BYTES = 150_000


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("state", "word", "headline"),
    [
        ("working", "working", "The mirror is up to date"),
        ("first-backfill", "reading", "Working on the first backfill"),
        ("degraded", "degraded", "The API is failing, while pulls still work"),
        ("revoked", "failing", "The API refuses the token"),
        ("nothing", "not begun", "Nothing has been mirrored yet"),
        ("drift", "attention", "Working, and codes had drifted"),
        ("held", "attention", "Working, and changes are held"),
        ("many", "degraded", "11 of 1,001 connections: failing"),
        ("fleet", "degraded", "2 of 21 connections: failing"),
        ("paused", "paused", "Paused"),
    ],
)
async def test_each_state_is_told_at_first_glance(mirror: Mirror, state: str, word: str, headline: str) -> None:
    async with serving(mirror) as site:
        await STATES[state](mirror, site)
        answer = await site.get("/")
        text = answer.body.decode()
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert (text.count("<h1"), f">{headline}</h1>" in text, f'<p class="word">{word}</p>' in text) == (
            1,
            True,
            True,
        )
        fragment = (await site.get("/fragment")).body.decode()
        assert f">{headline}</h1>" in fragment
        assert "<html" not in fragment
        for secret in ("NEVER-SHOWN", ACCESS_TOKEN, CLIENT_TOKEN, mirror.database_url):
            assert secret not in text + fragment


@pytest.mark.long
async def test_a_connection_among_many_has_a_page_of_its_own(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["many"](mirror, site)
        text = (await site.get("/?connection=hotel-0090")).body.decode()
        assert "The API refuses the token" in text
        assert 'data-fragment="fragment?connection=hotel-0090"' in text
        assert text.count("hotel-0180") == 0
        listed = [(await site.get(f"/?page={page}")).body.decode() for page in (1, 2, 21, 10_000)]
        assert ["page 1 of 21" in listed[0], "page 2 of 21" in listed[1]] == [True, True]
        assert [text.count('<th scope="row" role="rowheader"><a href="?connection=') for text in listed] == [
            50,
            50,
            1,
            1,
        ]
        assert [text.count("<li><a href") for text in listed] == [10] * 4, "the slowest ten"


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("find", "count", "first"),
    [
        ("failing", 11, "hotel-0270"),
        ("paused", 12, "hotel-0273"),
        ("Paused", 12, "hotel-0273"),
        ("HOTEL-09", 50, "hotel-0990"),
        ("0999", 1, "hotel-0999"),
        ("no such", 0, None),
        ("%00%ff<script>", 0, None),
    ],
)
async def test_connections_are_found_by_a_part_of_their_name_and_by_their_state(
    mirror: Mirror, find: str, count: int, first: str | None
) -> None:
    async with serving(mirror) as site:
        await STATES["many"](mirror, site)
        text = (await site.get(f"/?find={find.replace(' ', '+')}")).body.decode()
        names = re.findall(r'role="rowheader"><a href="[^"]+">([\w-]+)</a>', text)
        assert (len(names), names[0] if names else None) == (count, first)
        assert ("No connection has that" in text, "<script>" in text) == (not count, False)
        if find == "HOTEL-09":
            assert 'href="?find=HOTEL-09&amp;page=2"' in text
            second = (await site.get("/?find=HOTEL-09&page=2")).body.decode()
            assert "page 2 of 2" in second
            assert 'data-fragment="fragment?find=HOTEL-09&amp;page=2"' in second


async def test_of_many_it_tells_who_works_for_each_and_since_when_and_why_one_is_not_well(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["fleet"](mirror, site)
        text = (await site.get("/")).body.decode()
        rows = {re.findall(r">([\w-]+)</a>", row)[0]: row for row in text.split('<tr role="row"><th scope="row"')[1:]}
        assert ("voucher-sync-0 (7)" in rows["hotel-0008"], "401" in rows["hotel-0008"]) == (True, True)
        assert ", 2 days ago</span>" in rows["hotel-0008"]
        assert ("closed until May" in rows["hotel-0003"], ", 9 days ago</span>" in rows["hotel-0003"]) == (True, True)
        assert "420 held" in rows["default"]
        assert "voucher-sync-1 (7)" in rows["hotel-0001"]
        daemons = text.split('aria-label="Table of daemons"')[1]
        told = re.findall(r">([\w-]+) \(\d+\)</th>.*?>(alive|silent)<.*?<td>(\d+)</td>", daemons)
        assert told[:2] == [("voucher-sync-0", "alive", "10"), ("voucher-sync-1", "alive", "7")]
        assert told[-1] == ("voucher-sync-2", "silent", "0")
        one = (await site.get("/?connection=hotel-0001")).body.decode()
        assert "voucher-sync-1 (7) works for hotel-0001." in one
        assert "MEWS_ACCESS_TOKEN" not in one.partition('id="settings"')[0]


@pytest.mark.long
async def test_the_database_is_asked_as_often_for_a_thousand_connections_as_for_twenty(mirror: Mirror) -> None:
    counts = list[int]()
    for state in ("fleet", "many"):
        for table in ("sync.connections", "sync.daemons", "sync.watermarks", "mews.vouchers"):
            await mirror.execute(f"DELETE FROM {table}")
        async with serving(mirror) as site:
            await STATES[state](mirror, site)
            statements = list[str]()
            engine = mirror.connection.shared_engine.sync_engine
            event.listen(engine, "before_cursor_execute", lambda *given, noted=statements: noted.append(given[2]))
            await site.get("/")
            counts.append(sum("FROM" in statement for statement in statements))
    assert counts[0] == counts[1] < 12


async def test_what_an_empty_page_looks_at_is_named(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        text = (await site.get("/")).body.decode()
    assert f"The database is {database_of(mirror.database_url)} at " in text


@pytest.mark.parametrize(
    ("state", "minutes", "told"),
    [
        ("failing", 2, "a request failed 2 minutes ago"),
        ("failing", 300, "no voucher is known yet"),
        ("ok", 2, "no voucher is known yet"),
    ],
)
async def test_the_last_success_is_told_apart_from_what_failed_since(
    mirror: Mirror, state: str, minutes: int, told: str
) -> None:
    async with serving(mirror) as site:
        await mirror.execute(
            "INSERT INTO sync.connections (name, state, heartbeat_at, caught_up_as_of) "
            "VALUES ('default', :state, now(), now() - interval '1 hour')",
            state=state,
        )
        await mirror.execute(
            "INSERT INTO sync.request_failures (connection, operation, problem, count, last_at) "
            "VALUES ('default', 'vouchers/getAll', 'timed out', 1, now() - :minutes * interval '1 minute')",
            minutes=minutes,
        )
        text = (await site.get("/")).body.decode()
    tile = text.split("<dt>Last success</dt>")[1].partition("</div>")[0]
    assert ("60 minutes ago" in tile, told in tile) == (True, True)


@pytest.mark.long
async def test_a_voucher_that_is_new_is_told_where_it_keeps_all_from_being_complete(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["working"](mirror, site)
        mirror.add_voucher("New")
        await mirror.discover()
        text = (await site.get("/")).body.decode()
    tile = text.split("<dt>Last success</dt>")[1].partition("</div>")[0]
    assert "a voucher that is new is being read" in tile


@pytest.mark.long
async def test_more_is_spoken_for_than_the_budget_has_and_all_of_it_is_used(mirror: Mirror) -> None:
    """What a process may begin counts beside calls that will have left the window by then."""
    async with serving(mirror, sync_rate_limit_requests=200) as site:
        await STATES["working"](mirror, site)
        await mirror.execute("UPDATE sync.reservations SET reserved = 21, ages_ms = array_fill(1000, ARRAY[187])")
        text = (await site.get("/")).body.decode()
    assert '<dt>Requests used</dt><dd class="value">200 of 200</dd>' in text


@pytest.mark.long
async def test_its_charts_have_a_value_for_each_instant(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["working"](mirror, site)
        for span, count in (("day", 288), ("month", 360)):
            told = (await site.get(f"/charts.json?connection=default&span={span}")).json()
            assert {len(line) for line in (told["at"], *told["lines"].values())} == {count}
        assert '<path d="M' in (await site.get("/")).body.decode()


async def test_nobody_waits_for_a_look_that_goes_on() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()
    looks = iter((1, 2))

    async def look() -> int:
        began.set()
        await may_end.wait()
        return next(looks)

    facts = kept.Remembered(look)
    first = asyncio.create_task(facts.refresh())
    await began.wait()
    assert not first.done()
    may_end.set()
    await first
    may_end.clear()
    began.clear()
    await facts.refresh()
    assert facts.found == 1
    await began.wait()
    assert facts.found == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/?connection=no-such", 404),
        ("/?connection=%00", 404),
        ("/?connection=%ff%fe", 404),
        ("/?connection=" + "x" * 5000, 404),
        ("/?page=-1", 200),
        ("/?page=" + "9" * 4000, 200),
        ("/?page=%D9%A3", 200),
        ("/fragment?page=x", 200),
        ("/charts.json", 404),
        ("/charts.json?connection=no-such", 200),
        ("/charts.json?connection=default&span=year", 404),
        ("/charts.json?connection=%00", 404),
        ("/charts.json?connection=%ff", 200),
        ("/static/..%2froutes.py", 404),
        ("/static/routes.py", 404),
        ("/static/", 404),
    ],
)
async def test_nothing_that_is_asked_for_brings_a_traceback(mirror: Mirror, path: str, status: int) -> None:
    async with serving(mirror) as site:
        answer = await site.get(path)
        assert (answer.status, b"Traceback" in answer.body) == (status, False)
        assert not [line for line in site.logs if line["event"] == "defect"]


async def test_what_a_name_holds_is_no_markup(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        name = "<script>alert(1)</script>"
        await mirror.execute(
            "INSERT INTO sync.connections (name, state, error) VALUES (:name, 'failing', :name)", name=name
        )
        text = (await site.get("/")).body.decode()
        assert ("<script>alert" in text, "&lt;script&gt;alert" in text) == (False, True)


@pytest.mark.long
@pytest.mark.usefixtures("never_kept")
async def test_without_the_database_the_page_says_so_and_shows_what_it_last_knew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy(database_url).served() as proxy:
        mirror = Mirror(proxy.url)
        async with mirror.opened(), serving(mirror) as site:
            await STATES["working"](mirror, site)
            assert ">The mirror is up to date</h1>" in (await site.get("/")).body.decode()
            proxy.is_down = True
            proxy.cut()
            text = (await site.get("/")).body.decode()
            assert ">The database does not answer</h1>" in text
            assert "All below is as it was at" in text
            assert "1,200" in text
            assert ('class="verdict failing as-was"' in text, 'class="since">since <time' in text) == (True, True)
            monkeypatch.setattr(routes, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 7200))
            assert " UTC</time>, 2 hours ago</p>" in (await site.get("/")).body.decode(), "not since somebody looked"
            assert ">The database does not answer</h1>" in (await site.get("/?connection=other")).body.decode()
            proxy.is_down = False
            assert ">The mirror is up to date</h1>" in (await site.get("/")).body.decode()


def test_the_page_and_its_files_are_small() -> None:
    files = [path for path in (Path(routes.__file__).parent / "static").iterdir() if path.suffix != ".txt"]
    templates = (Path(routes.__file__).parent / "templates").iterdir()
    assert sum(path.stat().st_size for path in [*files, *templates]) < MOST_BYTES


def test_nothing_on_it_is_another_host_s_or_needs_what_the_policy_forbids() -> None:
    folder = Path(routes.__file__).parent
    ours = [*(folder / "templates").iterdir(), *folder.glob("static/[pc]*.js"), folder / "static" / "style.css"]
    text = "".join(path.read_text(encoding="utf-8") for path in ours)
    assert re.findall(r"https?://|//[a-z]+\.|\bstyle=|\bon[a-z]+=|@import|url\(|\beval\(|javascript:", text) == []
