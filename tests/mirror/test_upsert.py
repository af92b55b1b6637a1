"""The mirror takes the freshest reading of each row, and writes only what differs."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.mews.records import VoucherCode
from sync.mirror.upsert import note_deleted
from sync.postgres.engine import transaction
from tests.mirror.helpers import NEW, NEWEST, OLD
from tests.support.database import CONNECTION, code, execute, footprint, mirrored, rows, store, uuid
from tests.support.instants import utc

ATTEMPTS = 20


async def wal_bytes(engine: AsyncEngine, *codes: VoucherCode) -> int:
    """How much the whole server wrote to its log while a page was stored and committed."""
    (before,) = await rows(engine, "SELECT pg_current_wal_insert_lsn()::text AS lsn")
    await store(engine, *codes)
    written = "SELECT pg_current_wal_insert_lsn() - CAST(:lsn AS pg_lsn) AS bytes"
    return int((await rows(engine, written, lsn=before["lsn"]))[0]["bytes"])


async def test_new_codes_are_inserted(engine: AsyncEngine) -> None:
    page = [code(2, "B", NEW), code(1, "A", OLD, is_active=False), code(3, None)]
    assert await store(engine, *page) == 3
    assert await mirrored(engine) == {one.id.int: one for one in page}
    for row in await rows(engine, "SELECT * FROM mews.voucher_codes"):
        assert row["connection"] == CONNECTION
        assert row["first_seen_at"] == row["mirrored_at"]
        assert row["missing_since"] is None


async def test_a_page_without_codes_writes_nothing(engine: AsyncEngine) -> None:
    assert await store(engine) == 0
    assert await mirrored(engine) == {}


async def test_a_changed_code_is_updated_and_keeps_when_it_was_first_seen(engine: AsyncEngine) -> None:
    await store(engine, code(1, "A", OLD), code(2, "B", OLD))
    before = await rows(engine, "SELECT first_seen_at, mirrored_at FROM mews.voucher_codes ORDER BY id")
    changed = code(
        1, "a", NEW, is_active=False, voucher_id=uuid(7), validity_start_utc=OLD, validity_end_utc=NEW, created_utc=None
    )
    assert await store(engine, changed, code(2, "B", OLD)) == 1
    assert await mirrored(engine) == {1: changed, 2: code(2, "B", OLD)}
    after = await rows(engine, "SELECT first_seen_at, mirrored_at FROM mews.voucher_codes ORDER BY id")
    assert after[0]["first_seen_at"] == before[0]["first_seen_at"]
    assert after[0]["mirrored_at"] > before[0]["mirrored_at"]
    assert after[1] == before[1]


@pytest.mark.parametrize(
    "change",
    [
        {"voucher_id": uuid(7)},
        {"value": "B"},
        {"value": None},
        {"validity_start_utc": OLD},
        {"validity_end_utc": OLD},
        {"created_utc": None},
        {"updated_utc": NEWEST},
        {"is_active": False},
    ],
    ids="-".join,
)
async def test_a_change_of_any_one_column_is_written(engine: AsyncEngine, change: dict[str, Any]) -> None:
    first = code(1, "A", NEW)
    await store(engine, first)
    assert await store(engine, first._replace(**change)) == 1
    assert await mirrored(engine) == {1: first._replace(**change)}


@pytest.mark.parametrize(
    ("stored", "read", "is_replaced"),
    [
        (OLD, NEW, True),
        (NEW, OLD, False),
        (NEW, NEW, True),
        (None, OLD, True),
        (OLD, None, False),
        (None, None, True),
        (None, utc(1, 1, 1), True),
        (utc(1, 1, 1), None, False),
    ],
)
async def test_the_fresher_reading_wins_and_at_equal_instants_the_later(
    engine: AsyncEngine, stored: datetime | None, read: datetime | None, is_replaced: bool
) -> None:
    first, second = code(1, "FIRST", stored), code(1, "SECOND", read)
    await store(engine, first)
    assert await store(engine, second) == is_replaced
    assert await mirrored(engine) == {1: second if is_replaced else first}


async def test_no_reading_undoes_a_delete_until_the_api_has_shown_it(engine: AsyncEngine) -> None:
    await store(engine, *(code(number, "A", OLD) for number in (1, 2)))
    async with transaction(engine) as tx:
        await note_deleted(tx, [uuid(1)])
    # The newest of them comes from before the delete all the same: its code was changed in the second before it.
    assert await store(engine, *(code(number, "A", NEW) for number in (1, 2))) == 1
    assert (await mirrored(engine))[1] == code(1, "A", OLD)._replace(is_active=False)
    shown = code(1, "A", NEW)._replace(is_active=False)
    assert (await store(engine, shown), await store(engine, shown)) == (1, 0)
    assert (await mirrored(engine))[1] == shown
    assert await store(engine, code(1, "A", NEWEST)) == 1


async def test_a_delete_that_the_api_shows_by_a_clock_that_was_put_back_is_believed(engine: AsyncEngine) -> None:
    await store(engine, *(code(number, "A", NEW) for number in (1, 2)))
    async with transaction(engine) as tx:
        await note_deleted(tx, [uuid(1)])
    shown = [code(number, "A", OLD)._replace(is_active=False) for number in (1, 2)]
    # Of a code of which no delete is noted, it may as well be a reading that has come late.
    assert await store(engine, *shown) == 1
    assert await mirrored(engine) == {1: shown[0], 2: code(2, "A", NEW)}


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize(
    ("page", "winner"),
    [
        ([OLD, NEW], 1),
        ([NEW, OLD], 0),
        ([NEW, NEW], 1),
        ([None, OLD], 1),
        ([OLD, None], 0),
        ([None, None], 1),
        ([OLD, NEWEST, NEW], 1),
        ([NEWEST, OLD, NEWEST], 2),
        ([NEWEST, NEWEST, OLD], 1),
        ([None, None, None], 2),
    ],
)
async def test_an_id_that_comes_twice_counts_once_at_its_freshest_then_latest(
    engine: AsyncEngine, page: list[datetime | None], winner: int, is_stored: bool
) -> None:
    if is_stored:
        await store(engine, code(1, "STORED"))
    duplicates = [code(1, f"READING-{position}", instant) for position, instant in enumerate(page)]
    others = [code(number, "OTHER", NEW) for number in (2, 3)]
    assert await store(engine, others[0], *duplicates, others[1]) == 3
    assert await mirrored(engine) == {1: duplicates[winner], 2: others[0], 3: others[1]}


async def test_a_page_without_news_writes_no_wal_and_touches_no_row(engine: AsyncEngine) -> None:
    fresh = [code(number, f"CODE-{number}", NEW) for number in range(500)]
    without_instant = [code(number, None) for number in range(500, 600)]
    await store(engine, *fresh, *without_instant)
    before = await footprint(engine)
    staler = [one._replace(value="STALE", updated_utc=OLD) for one in fresh[:100]]
    page = [*staler, *fresh[100:], *without_instant, without_instant[0]]
    # The log is the whole server's, and its background processes write now and then.
    assert 0 in [await wal_bytes(engine, *page) for _ in range(ATTEMPTS)]
    assert await footprint(engine) == before
    assert await wal_bytes(engine, *page, code(0, "NEWS", NEWEST)) > 0


async def test_every_nullable_column_can_be_null(engine: AsyncEngine) -> None:
    bare = [VoucherCode(uuid(number), uuid(1), None, None, None, None, None, False) for number in (1, 2)]
    assert await store(engine, *bare) == 2
    assert await mirrored(engine) == {1: bare[0], 2: bare[1]}
    assert await store(engine, *bare) == 0


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "x" * 128,
        "\U0001f3e8" * 128,
        "e\u0301\u202e\ufeff",
        "'",
        '"',
        "\\",
        "\\N",
        "{}",
        "{a,b}",
        ",",
        "NULL",
        "null",
        "a,b;c\td\r\ne",
        "%s %(value)s :value $1 ?",
        "\x01\x7f",
    ],
)
async def test_a_value_comes_back_as_it_was(engine: AsyncEngine, value: str) -> None:
    page = [code(1, value, NEW), code(2, None, NEW), code(3, value + "'", NEW)]
    await store(engine, *page)
    assert [one.value for one in (await mirrored(engine)).values()] == [value, None, value + "'"]
    assert await store(engine, *page) == 0


async def test_the_first_and_the_last_instants_come_back_as_they_were(engine: AsyncEngine) -> None:
    first, last = utc(1, 1, 1), utc(9999, 12, 31, 23, 59, 59)
    extremes = VoucherCode(uuid(1), uuid(2**128 - 1), "A", first, last, first, last, True)
    fractions = code(2, "B", utc(2026, 1, 1, 0, 0, 0, 123456))
    await store(engine, extremes, fractions)
    assert await mirrored(engine) == {1: extremes, 2: fractions}
    assert await store(engine, extremes, fractions, extremes._replace(value="STALE", updated_utc=None)) == 0


async def test_a_missing_code_that_is_read_again_is_no_longer_missing(engine: AsyncEngine) -> None:
    await store(engine, code(1, "A", NEW), code(2, "B", NEW))
    await execute(engine, "UPDATE mews.voucher_codes SET missing_since = now(), mirrored_at = '2026-01-01Z'")
    assert await store(engine, code(1, "A", NEW)) == 1
    one, two = await rows(engine, "SELECT missing_since, mirrored_at FROM mews.voucher_codes ORDER BY id")
    assert one["missing_since"] is None
    assert one["mirrored_at"] > utc(2026, 1, 1)
    assert two["missing_since"] is not None


instants = st.sampled_from([None, OLD, NEW, NEWEST])
readings = st.builds(code, st.integers(1, 4), st.sampled_from([None, "A", "B"]), instants, is_active=st.booleans())


def is_staler(read: VoucherCode, stored: VoucherCode) -> bool:
    """The rule, written independently of the statement."""
    if stored.updated_utc is None:
        return False
    return read.updated_utc is None or read.updated_utc < stored.updated_utc


def applied(pages: Iterable[list[VoucherCode]]) -> dict[int, VoucherCode]:
    """What a mirror must hold after these pages: each reading one after the other."""
    held: dict[int, VoucherCode] = {}
    for read in (one for page in pages for one in page):
        if read.id.int not in held or not is_staler(read, held[read.id.int]):
            held[read.id.int] = read
    return held


@pytest.mark.long
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(readings, max_size=6), max_size=5))
async def test_any_pages_in_any_order_end_in_the_freshest_readings(
    engine: AsyncEngine, pages: list[list[VoucherCode]]
) -> None:
    await execute(engine, "TRUNCATE mews.voucher_codes")
    for number, page in enumerate(pages):
        before, expected = await mirrored(engine), applied(pages[: number + 1])
        written = await store(engine, *page)
        assert await mirrored(engine) == expected
        assert written == sum(before.get(one) != row for one, row in expected.items())
