"""Every statement of docs/bi.md runs, and answers right, in a database with two hotels and some past."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.audit.overwrite import mark_missing
from sync.core.errors import DatabaseError
from sync.mews.records import Enterprise, Service
from sync.mirror.tables import voucher_codes
from sync.mirror.upsert import note_deleted, store_enterprises, store_services, store_voucher_codes, store_vouchers
from sync.outbox.rules import Status
from sync.postgres.engine import make_engine, transaction
from sync.postgres.migrations import migrate
from tests.support.clusters import OLDER, clusters
from tests.support.database import CONNECTION, code, execute, make_known, rows, store, uuid, voucher
from tests.support.documents import ROOT
from tests.support.queue import Outbox
from tests.support.users import login

PAGE = (ROOT / "docs" / "bi.md").read_text(encoding="utf-8")
STATEMENTS = dict(re.findall(r"^```sql\n-- (\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
QUESTIONS = PAGE.partition("## Ten questions")[2].partition("\n## ")[0]
NOW, DAY = datetime.now(UTC).replace(microsecond=0), timedelta(days=1)
A_YEAR_AGO, LONG_AGO = NOW - 365 * DAY, NOW - 100 * DAY
PRAGUE, NOWHERE = uuid(3001), uuid(3002)
SUMMER, WINTER = uuid(1001), uuid(1002)
CODES = [
    code(1, "STANDS", A_YEAR_AGO, voucher_id=SUMMER, created_utc=A_YEAR_AGO),
    code(2, "ENDS", LONG_AGO, voucher_id=SUMMER, created_utc=LONG_AGO, validity_end_utc=NOW + 5 * DAY),
    code(3, "ENDED", LONG_AGO, voucher_id=SUMMER, created_utc=LONG_AGO, validity_end_utc=NOW - 5 * DAY),
    code(4, "GONE", NOW - 9 * DAY, voucher_id=SUMMER, created_utc=LONG_AGO, is_active=False),
    code(
        5, "NEVER BEGAN", NOW - 9 * DAY, voucher_id=WINTER, created_utc=LONG_AGO, is_active=False,
        validity_start_utc=NOW + DAY, validity_end_utc=NOW + 20 * DAY,
    ),
    code(6, "STANDS", LONG_AGO, voucher_id=WINTER, created_utc=LONG_AGO, validity_end_utc=NOW + 25 * DAY),
]  # fmt: skip


@pytest.fixture
async def hotels(engine: AsyncEngine) -> AsyncEngine:
    """Two hotels, one of which is in a time zone that no server knows, with a voucher and codes each."""
    async with transaction(engine) as tx:
        await make_known(tx)
        await store_enterprises(
            tx,
            CONNECTION,
            [Enterprise(PRAGUE, "Prague", "Europe/Prague"), Enterprise(NOWHERE, "Nowhere", "Europe/Nowhere")],
        )
        await store_services(tx, CONNECTION, [Service(uuid(2000), PRAGUE, "Stay", "Bookable", is_active=True)])
        vouchers = [voucher(1001, enterprise_id=PRAGUE), voucher(1002, enterprise_id=NOWHERE, name="Winter")]
        await store_vouchers(tx, CONNECTION, vouchers)
        await store_voucher_codes(tx, CONNECTION, CODES)
    return engine


async def ask(engine: AsyncEngine, name: str, **parameters: Any) -> list[Mapping[str, Any]]:
    """What a statement of the page answers."""
    return [dict(row) for row in await rows(engine, STATEMENTS[name], **parameters)]


def test_there_are_ten_questions_and_each_has_its_statement() -> None:
    asked = re.split(r"^### ", QUESTIONS, flags=re.MULTILINE)[1:]
    assert len(asked) == 10
    assert [one.partition("\n")[0] for one in asked if "```sql\n-- " not in one] == []
    assert PAGE.count("```sql") == len(STATEMENTS)


async def test_how_many_were_issued(hotels: AsyncEngine) -> None:
    found = await ask(hotels, "issued")
    month = LONG_AGO.date().replace(day=1)
    shown = ("enterprise_name", "created_month", "issued", "active", "deleted")
    assert [tuple(one[name] for name in shown) for one in found] == [
        ("Prague", A_YEAR_AGO.date().replace(day=1), 1, 1, 0),
        ("Prague", month, 3, 2, 1),
        ("Nowhere", month, 2, 1, 1),
    ]  # fmt: skip


async def test_how_many_are_active(hotels: AsyncEngine) -> None:
    await execute(hotels, f"INSERT INTO mews.voucher_targets (voucher_id, target) VALUES ('{SUMMER}', 10)")
    assert await ask(hotels, "active") == [
        {"enterprise_name": "Nowhere", "active": 1, "expired": 0, "short_of_target": None},
        {"enterprise_name": "Prague", "active": 2, "expired": 1, "short_of_target": 8},
    ]
    (stock,) = await rows(hotels, f"SELECT * FROM mews.voucher_stock WHERE voucher_id = '{SUMMER}'")
    named = ("issued", "active", "expired", "deleted", "missing", "expiring_in_7_days", "expiring_in_30_days")
    assert [stock[name] for name in named] == [4, 2, 1, 1, 0, 1, 1]
    assert (stock["gone_in_30_days"], stock["days_until_empty"]) == (2, 30)


async def test_what_was_deleted_long_after_its_end_has_not_left_the_stock_now(hotels: AsyncEngine) -> None:
    ended = code(7, "ENDED", NOW - DAY, voucher_id=WINTER, validity_end_utc=NOW - 60 * DAY, is_active=False)
    await store(hotels, ended, ended._replace(id=uuid(8), value="LATER", validity_end_utc=NOW - 20 * DAY))
    (stock,) = await rows(hotels, f"SELECT * FROM mews.voucher_stock WHERE voucher_id = '{WINTER}'")
    assert (stock["deleted"], stock["gone_in_30_days"]) == (3, 2)


async def test_what_was_deleted_here_is_gone_since_then_before_the_api_tells(hotels: AsyncEngine) -> None:
    """Its `updated_utc` is of a change before: by that it had been deleted before its validity began."""
    begun = code(7, "BEGUN", LONG_AGO, voucher_id=SUMMER, created_utc=LONG_AGO, validity_start_utc=LONG_AGO + DAY)
    later = begun._replace(id=uuid(8), value="LATER", updated_utc=NOW - 9 * DAY, validity_start_utc=NOW - 8 * DAY)
    await store(hotels, begun, later)
    gone = "SELECT gone_in_30_days FROM mews.voucher_stock WHERE voucher_id = :id"
    (before,) = await rows(hotels, gone, id=SUMMER)
    async with transaction(hotels) as tx:
        assert await note_deleted(tx, [begun.id, later.id]) == 2
    (after,) = await rows(hotels, gone, id=SUMMER)
    assert after["gone_in_30_days"] - before["gone_in_30_days"] == 2
    of_summer = next(one for one in await ask(hotels, "unused") if one["voucher_name"] == "Summer")
    assert [of_summer[name] for name in ("deleted", "surely_unused", "still_valid")] == [3, 0, 3]
    valid = {one["voucher_id"]: one["codes"] for one in await ask(hotels, "valid", day=NOW - DAY)}
    assert valid == {SUMMER: 4, WINTER: 1}


async def test_which_expire(hotels: AsyncEngine) -> None:
    found = await ask(hotels, "expiring")
    assert [(one["voucher_name"], one["codes"]) for one in found] == [("Summer", 1), ("Winter", 1)]
    assert found[1]["first_end"] is None  # by the clocks of a zone that nobody knows


async def test_which_were_deleted_unused(hotels: AsyncEngine) -> None:
    found = {one.pop("enterprise_name"): one for one in map(dict, await ask(hotels, "unused"))}
    assert found == {
        "Prague": {"voucher_name": "Summer", "deleted": 1, "surely_unused": 0, "still_valid": 1},
        "Nowhere": {"voucher_name": "Winter", "deleted": 1, "surely_unused": 1, "still_valid": 1},
    }


async def test_which_were_valid_on_a_past_day(hotels: AsyncEngine) -> None:
    async def valid(day: datetime) -> dict[Any, int]:
        return {one["voucher_id"]: one["codes"] for one in await ask(hotels, "valid", day=day)}

    assert await valid(A_YEAR_AGO - DAY) == {}
    assert await valid(A_YEAR_AGO + DAY) == {SUMMER: 1}
    assert await valid(LONG_AGO + DAY) == {SUMMER: 4, WINTER: 1}
    assert await valid(NOW - DAY) == {SUMMER: 2, WINTER: 1}


async def test_what_has_changed_and_how(hotels: AsyncEngine) -> None:
    assert {one["how"] for one in await ask(hotels, "changed", since=NOW - DAY)} == {"new"}
    (row,) = await rows(hotels, "SELECT clock_timestamp() AS now")
    await store(hotels, CODES[0]._replace(is_active=False, updated_utc=NOW), CODES[1]._replace(value="OTHER"))
    async with transaction(hotels) as tx:
        (at,) = (await tx.execute(select(voucher_codes.c.mirrored_at).where(voucher_codes.c.id == uuid(3)))).one()
        await mark_missing(tx, [(uuid(3), at)])
    await store(hotels, code(7, "NEW", NOW, voucher_id=SUMMER))
    found = {one["value"]: (one["how"], one["changed"]) for one in await ask(hotels, "changed", since=row["now"])}
    assert found == {
        "STANDS": ("deleted", ["is_active", "updated_utc"]),
        "OTHER": ("changed", ["value"]),
        "ENDED": ("missing", ["missing_since"]),
        "NEW": ("new", None),
    }
    assert [one["voucher_code_id"] for one in await ask(hotels, "deletions", since=row["now"])] == [uuid(1)]


async def test_who_queued_what_took_how_long_and_why_it_failed(hotels: AsyncEngine) -> None:
    outbox = Outbox(hotels)
    for number in range(3):
        row_id = await outbox.add(f"REFUSED {number}", voucher_id=SUMMER)
        await outbox.bring(row_id, Status.FAILED)
        await outbox.set(row_id, last_error=f"Code REFUSED {number} exists already")
    await outbox.bring(await outbox.add(voucher_id=SUMMER), Status.DONE)
    (latency,) = await ask(hotels, "queued")
    assert (latency["operation"], latency["changes"]) == ("add", 1)
    assert 0 <= latency["p50_s"] == latency["max_s"]
    (reason,) = await ask(hotels, "failed")
    assert (reason["reason"], reason["changes"]) == ("Code ... exists already", 3)


async def test_which_values_exist_in_several_hotels(hotels: AsyncEngine) -> None:
    await store(hotels, code(8, "TWICE HERE", NOW, voucher_id=SUMMER), code(9, "TWICE HERE", NOW, voucher_id=SUMMER))
    assert await ask(hotels, "duplicates") == [{"value": "STANDS", "hotels": 2, "codes": 2}]


async def test_whether_it_can_be_trusted(hotels: AsyncEngine) -> None:
    (found,) = await ask(hotels, "trust")
    assert (found["connection"], found["complete_through"]) == (CONNECTION, None)  # nothing was ever pulled


async def test_a_load_bit_by_bit(hotels: AsyncEngine) -> None:
    (bound,) = await ask(hotels, "bound")
    await store(hotels, code(7, "NEW", NOW, voucher_id=SUMMER))
    assert uuid(7) in {one["id"] for one in await ask(hotels, "load", since=bound["settled_before"])}


@pytest.fixture
def analyst(database_url: str) -> Iterator[str]:
    """A login with what the page grants to those who must not see codes."""
    # As sites do that let nobody call a function unless it was granted.
    nobody = b"REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA mews FROM PUBLIC"
    group = f"analysts_{uuid4().hex}"
    statements = STATEMENTS["masked"].replace("analysts", group)
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(nobody)
        admin.execute(statements.encode())
        with login(database_url, member_of=group) as url:
            yield url
        admin.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(group)))


async def test_who_must_not_see_codes_does_not(hotels: AsyncEngine, analyst: str) -> None:
    engine = make_engine(analyst)
    found = await rows(engine, "SELECT * FROM mews.voucher_codes_without_values")
    assert len(found) == len(CODES)
    texts = {one.value for one in CODES}
    assert [row for row in found if texts & set(map(str, row.values()))] == []
    relations = await rows(
        hotels,
        "SELECT format('mews.%I', relname) AS name FROM pg_class WHERE relnamespace = 'mews'::regnamespace "
        "AND relkind IN ('r', 'v') "
        "AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'value')",
    )
    assert len(relations) >= 5
    for relation in relations:
        with pytest.raises(DatabaseError, match=r"42501"):
            await rows(engine, f"SELECT value FROM {relation['name']}")
    with pytest.raises(DatabaseError, match=r"42501"):
        await rows(engine, "SELECT * FROM mews.voucher_codes_as_of(now())")
    await engine.dispose()


@pytest.mark.parametrize("name", ["materialised", "published"])
async def test_what_users_build_on_it_works_and_keeps_nobody_from_writing(
    hotels: AsyncEngine, database_url: str, name: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(STATEMENTS[name].encode())
        if name == "materialised":
            owner.execute(b"REFRESH MATERIALIZED VIEW CONCURRENTLY bi.codes_by_local_month")
    assert await store(hotels, CODES[0]._replace(is_active=False, updated_utc=NOW)) == 1


async def test_versions_that_are_published_beside_anothers_have_numbers_of_their_own(
    hotels: AsyncEngine, database_url: str
) -> None:
    """Each database counts them from 1, and a subscriber of two takes no number twice."""
    elsewhere = 10**12
    await store(hotels, CODES[0]._replace(updated_utc=NOW), CODES[1]._replace(updated_utc=NOW))
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(STATEMENTS["published"].encode())
        owner.execute(STATEMENTS["renumbered"].encode())
    await store(hotels, CODES[2]._replace(updated_utc=NOW))
    found = await rows(hotels, "SELECT id FROM mews.voucher_code_versions ORDER BY id")
    assert [row["id"] for row in found] == [elsewhere, elsewhere + 1, elsewhere + 2]


async def test_a_time_zone_is_one_that_the_server_has_by_that_name(engine: AsyncEngine) -> None:
    """PostgreSQL takes others for rules of POSIX, by which what is written as east lies west."""
    known = ["Europe/Prague", "Etc/GMT+5", "EST5EDT", "UTC"]
    unknown = ["+05:30", "UTC+2", "<+03>-3", "Europe/Nowhere2", "12", "\x1b[31m", "Europe/Nowhere", ""]
    asked = "SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE mews.known_time_zone(name) = name"
    assert [row["name"] for row in await rows(engine, asked, names=[*known, *unknown])] == known


@pytest.mark.long
def test_the_named_views_are_read_by_a_parallel_plan_of_an_older_release() -> None:
    """Which refuses, in any part of it, what catches an error as `known_time_zone` does."""
    with clusters() as made:
        older = made.initialised("older", OLDER)
        older.start(debug_parallel_query="on", min_parallel_table_scan_size="0", parallel_setup_cost="0")
        migrate(older.url)
        hotel = f"INSERT INTO mews.enterprises (id, name, time_zone, connection) VALUES ('{PRAGUE}', 'P', 'x/y', 'c')"
        older.execute(hotel)
        for view in ("voucher_codes_named", "voucher_codes_without_values"):
            assert older.execute(f"SELECT count(created_local) FROM mews.{view}") == [(0,)]
        assert older.execute("SELECT mews.known_time_zone(time_zone) FROM mews.enterprises") == [(None,)]


async def test_hotel_local_time_is_the_hotels_own(hotels: AsyncEngine) -> None:
    winter, summer = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 7, 1, 12, tzinfo=UTC)
    await store(
        hotels,
        code(7, "W", NOW, voucher_id=SUMMER, created_utc=winter),
        code(8, "S", NOW, voucher_id=SUMMER, created_utc=summer),
        code(9, "N", NOW, voucher_id=WINTER, created_utc=summer),
        code(10, "U", NOW, voucher_id=uuid(1999), created_utc=summer),
    )
    found = {
        row["value"]: row["created_local"] and row["created_local"].hour
        for row in await rows(hotels, "SELECT value, created_local FROM mews.voucher_codes_named")
        if len(row["value"]) == 1
    }  # fmt: skip
    assert found == {"W": 13, "S": 14, "N": None, "U": None}
