"""What a pull has to read: what other processes left open, what has a watermark, and what was never read."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from sync.mirror.pending_reads import load_pending_reads
from sync.mirror.windows import BackfillCandidate, ReadLimits, Watermark
from sync.postgres.engine import transaction
from tests.mirror.helpers import BOUNDS, END, SLOWER, START, USUAL, WINDOWS, Database, backfill, incremental
from tests.support.database import CONNECTION, execute, uuid
from tests.support.instants import utc


async def test_cursors_outlive_their_process(database: Database) -> None:
    _, second, third, _ = await database.open(backfill(uuid(1), read_limits=ReadLimits(500)))
    assert (await database.keep_cursor(second, uuid(70))).cursor == uuid(70)
    await database.keep_cursor(await database.keep_cursor(third, uuid(80)), uuid(81))
    opened = (await database.work()).open
    assert [reading.window for reading in opened] == list(WINDOWS)
    assert [reading.cursor for reading in opened] == [None, uuid(70), uuid(81), None]
    assert {(reading.group.voucher_ids, reading.group.read_limits) for reading in opened} == {
        ((uuid(1),), ReadLimits(500))
    }
    assert all(reading.group is opened[0].group for reading in opened)


async def test_windows_that_were_loaded_go_on_as_if_nothing_had_happened(database: Database) -> None:
    await database.open(backfill(uuid(1)))
    for number in reversed(range(len(WINDOWS))):
        assert await database.marks() == {1: START}
        await database.complete((await database.work()).open[number])
    assert await database.marks() == {1: END}
    assert await database.is_idle()


async def test_a_slower_pace_is_kept_for_a_day(database: Database) -> None:
    await database.know(1)
    (reading,) = await database.open(backfill(uuid(1), windows=WINDOWS[:1]))
    for part in await database.save_reduced(reading, SLOWER, reading.window):
        await database.complete(part)
    slowed = "UPDATE sync.watermarks SET slowed_at = now() - make_interval(hours => :hours)"
    for hours, read_limits in ((23, SLOWER), (25, USUAL)):
        await execute(database.engine, slowed, hours=hours)
        assert (await database.work()).watermarks == [Watermark(uuid(1), BOUNDS[1], read_limits)]


async def test_the_work_is_what_is_open_what_has_a_watermark_and_what_was_never_read(database: Database) -> None:
    await database.know(1, 2, 3, 4)
    await database.know(9, connection="other")
    await database.read_to(BOUNDS[1], uuid(1))
    await database.open(backfill(uuid(2), windows=WINDOWS[2:]))
    await database.open(incremental(uuid(3), windows=WINDOWS[:2]))
    async with transaction(database.engine) as tx:
        now = (await tx.execute(text("SELECT now()"))).scalar_one()
        work = await load_pending_reads(tx, CONNECTION)
    assert [reading.window for reading in work.open] == list(WINDOWS)
    assert [reading.group.voucher_ids for reading in work.open] == [(uuid(3),)] * 2 + [(uuid(2),)] * 2
    assert work.watermarks == [Watermark(uuid(1), BOUNDS[1])]
    assert work.candidates == [BackfillCandidate(uuid(4), START)]
    assert work.as_of == now
    assert (await database.work("other")).candidates == [BackfillCandidate(uuid(9), START)]


@pytest.mark.parametrize(
    ("backfill_from", "begins"),
    [(None, False), (START - timedelta(seconds=1), True), (START, False), (START + timedelta(seconds=1), False)],
)
async def test_a_voucher_that_is_mirrored_from_too_late_begins_anew(
    database: Database, backfill_from: datetime | None, begins: bool
) -> None:
    await database.know(1)
    await database.read_to(END, uuid(1))
    async with transaction(database.engine) as tx:
        work = await load_pending_reads(tx, CONNECTION, backfill_from)
    assert work.candidates == ([BackfillCandidate(uuid(1), START)] if begins else [])
    assert work.watermarks == ([] if begins else [Watermark(uuid(1), END)])


async def test_the_oldest_creation_stands_for_one_that_the_api_hides(database: Database) -> None:
    await database.know(1, created_utc=None)
    assert (await database.work()).candidates == [BackfillCandidate(uuid(1), None)]
    await database.know(2, created_utc=BOUNDS[2])
    await database.know(3, created_utc=BOUNDS[1])
    await database.know(4, created_utc=BOUNDS[0], connection="other")
    candidates = {one.voucher_id: one.created_utc for one in (await database.work()).candidates}
    assert candidates == {uuid(1): BOUNDS[1], uuid(2): BOUNDS[2], uuid(3): BOUNDS[1]}


async def test_a_voucher_of_the_year_1_stops_no_one_whatever_the_zone_of_the_database(database: Database) -> None:
    await execute(
        database.engine, "DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = ''America/New_York''', "
        "current_database()); END$$"
    )  # fmt: skip
    await database.engine.dispose()
    await database.know(1, created_utc=utc(1, 1, 1))
    assert len((await database.work()).candidates) == 1
