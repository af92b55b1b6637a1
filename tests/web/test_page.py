"""The page over HTTP: what is on it and what is not, whatever is asked for, and with nobody to run its script."""

import asyncio
import re
from pathlib import Path

import pytest

from sync.web import database_look
from sync.web.page import kept, routes
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror
from tests.support.proxy import Proxy

from .helpers import serving
from .page_states import STATES

MOST_BYTES = 150_000


@pytest.mark.parametrize(
    ("state", "word", "headline"),
    [
        ("working", "working", "The mirror is up to date"),
        ("first-backfill", "reading", "Working on the first backfill"),
        ("degraded", "degraded", "The API is failing, while pulls still work"),
        ("api-down", "failing", "The API refuses the token"),
        ("nothing", "not begun", "Nothing has been mirrored yet"),
        ("drift", "attention", "Working, and something needs you"),
        ("held", "attention", "Working, and something needs you"),
        ("many", "degraded", "11 of 1,001 connections: degraded"),
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


async def test_a_connection_among_many_has_a_page_of_its_own(mirror: Mirror) -> None:
    async with serving(mirror) as site:
        await STATES["many"](mirror, site)
        text = (await site.get("/?connection=hotel-0090")).body.decode()
        assert "The API refuses the token" in text
        assert 'data-fragment="fragment?connection=hotel-0090"' in text
        assert text.count("hotel-0180") == 0
        listed = [(await site.get(f"/?page={page}")).body.decode() for page in (1, 2, 21, 10_000)]
        assert ["page 1 of 21" in listed[0], "page 2 of 21" in listed[1]] == [True, True]
        assert [text.count("?connection=") for text in listed] == [50, 50, 1, 1]


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


async def test_without_the_database_the_page_says_so_and_shows_what_it_last_knew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "GOOD_FOR_S", 0.0)
    monkeypatch.setattr(database_look, "PAUSES", 0)
    monkeypatch.setattr(kept, "TOLD_FOR_S", 0.0)
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
