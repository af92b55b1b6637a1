"""Every version of a code that the mirror has shown is kept, from when it held to when it was replaced."""

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.audit.overwrite import mark_missing, overwrite
from sync.mews.records import VoucherCode
from sync.mirror.upsert import note_deleted
from sync.postgres.engine import make_engine, transaction
from tests.mirror.helpers import NEW, NEWEST, OLD
from tests.support.database import blocked, code, execute, footprint, rows, store, uuid
from tests.support.pooler import way_to
from tests.support.users import login

HISTORY = "SELECT * FROM mews.voucher_code_history WHERE voucher_code_id = :id ORDER BY valid_from, valid_to"
AS_OF = "SELECT * FROM mews.voucher_codes_as_of(:instant)"
VERSIONS = "mews.voucher_code_versions"


async def history(engine: AsyncEngine, number: int = 1) -> list[RowMapping]:
    """The versions of a code, the oldest first."""
    return list(await rows(engine, HISTORY, id=uuid(number)))


async def mirrored_at(engine: AsyncEngine, number: int = 1) -> datetime:
    """When a code was last written."""
    (row,) = await rows(engine, "SELECT mirrored_at FROM mews.voucher_codes WHERE id = :id", id=uuid(number))
    instant: datetime = row["mirrored_at"]
    return instant


def adjoin(versions: list[RowMapping]) -> bool:
    """Whether each version begins where the one before ended, and the last one stands."""
    ends = [version["valid_to"] for version in versions]
    return ends == [*(version["valid_from"] for version in versions[1:]), None] and all(
        version["valid_from"] < version["valid_to"] for version in versions[:-1]
    )


def of_api(version: RowMapping) -> VoucherCode:
    """A version as the API's code."""
    return VoucherCode(version["voucher_code_id"], *(version[name] for name in VoucherCode._fields[1:]))


async def test_a_code_that_never_changed_has_one_version_since_the_api_last_changed_it(engine: AsyncEngine) -> None:
    await store(engine, code(1, "A", NEW), code(2, "B", None))
    (version,) = await history(engine)
    assert (version["valid_from"], version["valid_to"], version["changed"]) == (NEW, None, None)
    assert of_api(version) == code(1, "A", NEW)
    (unknown,) = await history(engine, 2)
    assert unknown["valid_from"] == await mirrored_at(engine, 2)
    assert await rows(engine, f"SELECT * FROM {VERSIONS}") == []


async def test_a_code_whose_clock_is_ahead_is_not_valid_before_it_was_seen(engine: AsyncEngine) -> None:
    (now,) = await rows(engine, "SELECT now() + interval '1 hour' AS ahead")
    await store(engine, code(1, "A", now["ahead"]))
    (version,) = await history(engine)
    assert version["valid_from"] == await mirrored_at(engine)


async def test_each_change_ends_a_version_and_says_what_changed(engine: AsyncEngine) -> None:
    first, second = code(1, "A", OLD), code(1, "A", NEW, is_active=False)
    third = code(1, "a", NEWEST, is_active=False, validity_end_utc=NEWEST)
    for one in (first, second, third):
        await store(engine, one)
    versions = await history(engine)
    assert [of_api(version) for version in versions] == [first, second, third]
    assert [version["changed"] for version in versions] == [
        ["updated_utc", "is_active"],
        ["value", "validity_end_utc", "updated_utc"],
        None,
    ]
    assert adjoin(versions)
    assert (versions[0]["valid_from"], versions[2]["valid_from"]) == (OLD, await mirrored_at(engine))


CHANGES = {
    "a delete that the API has not shown yet": (lambda tx, at: note_deleted(tx, [uuid(1)]), "is_active"),
    "an audit's repair": (lambda tx, at: overwrite(tx, [(code(1, "B", OLD), at)]), "value"),
    "an audit's mark": (lambda tx, at: mark_missing(tx, [(uuid(1), at)]), "missing_since"),
}


@pytest.mark.parametrize(("change", "column"), CHANGES.values(), ids=CHANGES.keys())
async def test_whatever_changes_a_code_ends_a_version(engine: AsyncEngine, change: Any, column: str) -> None:
    await store(engine, code(1, "A", NEW))
    at = await mirrored_at(engine)
    async with transaction(engine) as tx:
        assert await change(tx, at) == 1
    versions = await history(engine)
    assert len(versions) == 2
    assert column in versions[0]["changed"]
    assert adjoin(versions)


async def test_a_page_without_news_keeps_no_version(engine: AsyncEngine) -> None:
    page = [code(number, f"V{number}", NEW) for number in range(1, 100)]
    await store(engine, *page, code(100, "A", OLD))
    await store(engine, code(100, "A", NEW))
    before = await footprint(engine, VERSIONS)
    assert await store(engine, *page, code(100, "A", OLD)) == 0
    assert await footprint(engine, VERSIONS) == before
    assert len(before) == 1


async def test_a_change_that_is_taken_back_keeps_none(engine: AsyncEngine) -> None:
    await store(engine, code(1, "A", OLD))
    async with engine.connect() as tx, tx.begin() as taken_back:
        await note_deleted(tx, [uuid(1)])
        await taken_back.rollback()
    assert len(await history(engine)) == 1


async def test_an_engine_without_history_keeps_no_version(engine: AsyncEngine, database_url: str) -> None:
    await store(engine, code(1, "A", OLD))
    without = make_engine(way_to(database_url), keeps_history=False)
    await store(without, code(1, "A", NEW))
    await without.dispose()
    assert await rows(engine, f"SELECT * FROM {VERSIONS}") == []
    await store(engine, code(1, "A", NEWEST))  # by a session that a pooler may have handed on
    assert len(await history(engine)) == 2


async def test_a_role_s_setting_turns_no_history_off(engine: AsyncEngine) -> None:
    await store(engine, code(1, "A", OLD))
    async with transaction(engine) as tx:
        await tx.execute(text("SELECT set_config('voucher_sync.history', 'off', false)"))
    await store(engine, code(1, "A", NEW))
    assert len(await history(engine)) == 2


async def test_of_two_who_change_a_code_the_later_notes_the_later_instant(engine: AsyncEngine) -> None:
    """Although the transaction of the later one began first."""
    await store(engine, code(1, "A", OLD))

    async def late() -> None:
        async with transaction(engine) as tx:
            await tx.execute(text("SELECT now()"))
            began.set()
            await first_is_under_way.wait()
            await note_deleted(tx, [uuid(1)])

    began, first_is_under_way = asyncio.Event(), asyncio.Event()
    later = asyncio.create_task(late())
    await began.wait()
    async with transaction(engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_codes SET value = 'B', mirrored_at = clock_timestamp()"))
        first_is_under_way.set()
        await blocked(engine, later)
        assert not later.done()
    await later
    versions = await history(engine)
    assert [version["value"] for version in versions] == ["A", "B", "B"]
    assert adjoin(versions)


async def test_as_of_an_instant_each_code_is_as_it_was(engine: AsyncEngine) -> None:
    await store(engine, code(1, "A", OLD), code(2, "B", NEW), code(3, "C", OLD, is_active=False))
    await store(engine, code(1, "A", NEW, is_active=False))
    second = await mirrored_at(engine)
    await store(engine, code(2, "B", NEWEST, is_active=False))
    now = await mirrored_at(engine, 2)

    async def active(instant: datetime) -> dict[str, bool]:
        return {row["value"]: row["is_active"] for row in await rows(engine, AS_OF, instant=instant)}

    moment = timedelta(microseconds=1)
    assert await active(OLD - moment) == {}
    assert await active(OLD) == {"A": True, "C": False}
    assert await active(second - moment) == {"A": True, "B": True, "C": False}
    assert await active(second) == {"A": False, "B": True, "C": False}
    assert await active(now) == {"A": False, "B": False, "C": False}


async def test_what_was_not_seen_is_left_out_as_of_then(engine: AsyncEngine) -> None:
    """A code that was deleted before it was mirrored stood before, but nobody saw how."""
    await store(engine, code(1, "A", NEW, is_active=False, created_utc=OLD))
    assert await rows(engine, AS_OF, instant=OLD) == []
    assert [row["is_active"] for row in await rows(engine, AS_OF, instant=NEW)] == [False]


async def test_as_of_is_read_by_whatever_index_the_query_allows(engine: AsyncEngine) -> None:
    """The function is part of the query's plan: otherwise a question for one code would read them all."""
    await store(engine, *(code(number, f"V{number}", NEW) for number in range(1, 2000)))
    await execute(engine, "ANALYZE mews.voucher_codes")
    plan = await rows(engine, f"EXPLAIN {AS_OF} WHERE voucher_code_id = :id", instant=NEW, id=uuid(1))
    words = "\n".join(row["QUERY PLAN"] for row in plan)
    assert "voucher_codes_pkey" in words
    assert "Seq Scan on voucher_codes" not in words
    assert "Function Scan" not in words


async def test_who_may_update_codes_needs_no_right_on_their_versions(engine: AsyncEngine, database_url: str) -> None:
    await store(engine, code(1, "A", OLD))
    with login(database_url) as url:
        name = url.partition("user=")[2].partition(" ")[0]
        for statement in (
            f"GRANT USAGE ON SCHEMA mews TO {name}",
            f"GRANT SELECT, UPDATE ON mews.voucher_codes TO {name}",
        ):
            await execute(engine, statement)
        other = make_engine(url)
        await execute(other, "UPDATE mews.voucher_codes SET value = 'B', mirrored_at = clock_timestamp()")
        await other.dispose()
        await execute(engine, f"REVOKE ALL ON mews.voucher_codes FROM {name}")
        await execute(engine, f"REVOKE ALL ON SCHEMA mews FROM {name}")
    assert [version["value"] for version in await history(engine)] == ["A", "B"]


@pytest.mark.long
def test_many_versions_are_kept_as_quickly_in_a_session_that_has_kept_a_single_one(database_url: str) -> None:
    """Each of so many compared with each, as by the plan for a single one, took 80 times as long."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection) "
            "SELECT gen_random_uuid(), gen_random_uuid(), n::text, true, 'default' FROM generate_series(1, 5000) AS n"
        )
    took_s = {}
    for first in (5000, 1):
        with psycopg.connect(database_url, autocommit=True) as connection:
            for most in (first, 5000):
                began_s = time.monotonic()
                connection.execute(
                    "UPDATE mews.voucher_codes SET mirrored_at = clock_timestamp() WHERE value::int <= %s", (most,)
                )
                took_s[first] = time.monotonic() - began_s
    assert took_s[1] < 5 * took_s[5000]
