"""A watermark never passes a window that is still open, never goes back, and open windows outlive their process."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise, permutations
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.mews.limits import Window
from sync.mirror.pending_reads import Group, PendingReads, WindowRead, load_pending_reads
from sync.mirror.upsert import store_vouchers
from sync.mirror.watermarks import clamp_to_now, complete, extend, keep_cursor, open_plan, save_reduced
from sync.mirror.windows import BackfillCandidate, Plan, ReadLimits, Watermark
from sync.postgres.engine import transaction
from tests.support.database import CONNECTION, blocked, execute, footprint, rows, uuid, voucher
from tests.support.instants import utc

BOUNDS = [utc(2026, month, 1) for month in range(1, 6)]
WINDOWS = tuple(Window(start, end) for start, end in pairwise(BOUNDS))
START, END = BOUNDS[0], BOUNDS[-1]
USUAL = ReadLimits()
TABLES = ("sync.watermarks", "sync.plans", "sync.windows")


def backfill(*voucher_ids: UUID, windows: Sequence[Window] = WINDOWS, read_limits: ReadLimits = USUAL) -> Plan:
    return Plan(voucher_ids, tuple(windows), read_limits, is_backfill=True)


def incremental(*voucher_ids: UUID, windows: Sequence[Window] = WINDOWS, read_limits: ReadLimits = USUAL) -> Plan:
    return Plan(voucher_ids, tuple(windows), read_limits, is_backfill=False)


@dataclass(frozen=True, slots=True)
class Database:
    """The functions under test, each in a transaction of its own."""

    engine: AsyncEngine

    async def know(self, *numbers: int, created_utc: datetime | None = START, connection: str = CONNECTION) -> None:
        async with transaction(self.engine) as tx:
            await store_vouchers(tx, connection, [voucher(one, created_utc=created_utc) for one in numbers])

    async def open(self, plan: Plan, connection: str = CONNECTION) -> list[WindowRead]:
        async with transaction(self.engine) as tx:
            return await open_plan(tx, connection, plan)

    async def complete(self, reading: WindowRead) -> None:
        async with transaction(self.engine) as tx:
            await complete(tx, reading)

    async def keep_cursor(self, reading: WindowRead, cursor: UUID | None) -> WindowRead:
        async with transaction(self.engine) as tx:
            return await keep_cursor(tx, CONNECTION, reading, cursor)

    async def save_reduced(self, reading: WindowRead, read_limits: ReadLimits, *parts: Window) -> list[WindowRead]:
        async with transaction(self.engine) as tx:
            return await save_reduced(tx, CONNECTION, reading, read_limits, parts)

    async def work(self, connection: str = CONNECTION) -> PendingReads:
        async with transaction(self.engine) as tx:
            return await load_pending_reads(tx, connection)

    async def read_to(self, end: datetime, *voucher_ids: UUID, read_limits: ReadLimits = USUAL) -> None:
        """Mirrors vouchers from `START` to `end`."""
        (reading,) = await self.open(backfill(*voucher_ids, windows=[Window(START, end)], read_limits=read_limits))
        await self.complete(reading)

    async def marks(self) -> dict[int, datetime]:
        found = await rows(self.engine, "SELECT voucher_id, complete_through FROM sync.watermarks")
        return {row["voucher_id"].int: row["complete_through"] for row in found}

    async def is_idle(self) -> bool:
        """Whether no plan and no window is left."""
        left = "SELECT id FROM sync.plans UNION ALL SELECT plan_id FROM sync.windows"
        return not await rows(self.engine, left)


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    """An empty database."""
    return Database(engine)


async def test_a_backfill_begins_its_watermarks_at_its_own_start(database: Database) -> None:
    readings = await database.open(backfill(uuid(1), uuid(2), read_limits=ReadLimits(500)))
    assert [reading.window for reading in readings] == list(WINDOWS)
    found = await rows(database.engine, "SELECT * FROM sync.watermarks ORDER BY voucher_id")
    assert [row["voucher_id"] for row in found] == [uuid(1), uuid(2)]
    for row in found:
        assert (row["mirrored_from"], row["complete_through"]) == (START, START)
        assert (row["connection"], row["page_size"], row["window_limit"]) == (CONNECTION, 500, None)


async def test_a_backfill_begins_anew_only_what_is_mirrored_from_a_later_instant(database: Database) -> None:
    stands = "SELECT * FROM sync.watermarks ORDER BY voucher_id"
    await database.read_to(BOUNDS[2], uuid(1), uuid(2))
    one, other = await rows(database.engine, stands)
    await database.open(backfill(uuid(1), windows=[Window(BOUNDS[1], END)]))
    assert await rows(database.engine, stands) == [one, other]
    await database.open(backfill(uuid(1), windows=[Window(utc(2025, 1, 1), END)]))
    anew, same = await rows(database.engine, stands)
    assert anew["mirrored_from"] == anew["complete_through"] == utc(2025, 1, 1)
    assert anew["first_saved_at"] > one["first_saved_at"]
    assert same == other


async def test_an_incremental_plan_begins_no_watermark(database: Database) -> None:
    await database.open(incremental(uuid(1)))
    assert await database.marks() == {}


async def test_a_watermark_never_passes_an_open_window_in_whatever_order_they_end(database: Database) -> None:
    for number, order in enumerate(permutations(range(len(WINDOWS)))):
        readings = await database.open(backfill(uuid(number)))
        left = list(WINDOWS)
        for position in order:
            await database.complete(readings[position])
            left.remove(WINDOWS[position])
            expected = left[0].start if left else END
            assert (await database.marks())[number] == expected, order
        assert await database.is_idle()


async def test_every_voucher_of_a_plan_moves_and_no_other(database: Database) -> None:
    await database.open(backfill(uuid(3)))
    for reading in await database.open(backfill(uuid(1), uuid(2))):
        await database.complete(reading)
    assert await database.marks() == {1: END, 2: END, 3: START}


async def test_two_last_windows_that_end_at_once_leave_the_right_watermark_and_no_plan(database: Database) -> None:
    *others, one, two = await database.open(backfill(uuid(1)))
    for reading in others:
        await database.complete(reading)
    async with transaction(database.engine) as tx:
        await complete(tx, two)
        ending = asyncio.create_task(database.complete(one))
        await blocked(database.engine, ending)
    await ending
    assert await database.marks() == {1: END}
    assert await database.is_idle()


async def test_a_watermark_never_goes_back(database: Database) -> None:
    await database.read_to(END, uuid(1), uuid(2))
    before = await footprint(database.engine, "sync.watermarks")
    await database.complete(WindowRead(Group((uuid(1),), ReadLimits()), WINDOWS[0]))
    for reading in reversed(await database.open(incremental(uuid(1), uuid(2)))):
        await database.complete(reading)
    assert await database.marks() == {1: END, 2: END}
    assert await footprint(database.engine, "sync.watermarks") == before


async def test_in_a_group_only_the_watermarks_that_lie_behind_move(database: Database) -> None:
    await database.read_to(BOUNDS[1], uuid(1))
    await database.read_to(BOUNDS[3], uuid(2))
    await database.complete(WindowRead(Group((uuid(1), uuid(2)), ReadLimits()), Window(START, BOUNDS[2])))
    assert await database.marks() == {1: BOUNDS[2], 2: BOUNDS[3]}


async def test_a_window_that_ends_with_its_first_page_leaves_no_plan(database: Database) -> None:
    await database.read_to(BOUNDS[1], uuid(1))
    await database.complete(WindowRead(Group((uuid(1),), ReadLimits()), Window(BOUNDS[0], BOUNDS[2])))
    assert await database.marks() == {1: BOUNDS[2]}
    assert await database.is_idle()


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


async def test_a_window_can_begin_again_at_its_newest_page(database: Database) -> None:
    first, *_ = await database.open(backfill(uuid(1)))
    kept = await database.keep_cursor(first, uuid(70))
    assert (await database.keep_cursor(kept, None)).cursor is None
    assert [reading.cursor for reading in (await database.work()).open] == [None] * 4


async def test_a_window_of_many_pages_is_written_down_with_its_first_cursor(database: Database) -> None:
    await database.read_to(BOUNDS[1], uuid(1), uuid(2))
    group = Group((uuid(1), uuid(2)), ReadLimits(125, timedelta(days=40)))
    reading = await database.keep_cursor(WindowRead(group, WINDOWS[1]), uuid(70))
    assert await database.marks() == {1: BOUNDS[1], 2: BOUNDS[1]}
    assert (await database.work()).open == [WindowRead(group, WINDOWS[1], uuid(70))]
    reading = await database.keep_cursor(reading, uuid(71))
    assert (await database.work()).open == [WindowRead(group, WINDOWS[1], uuid(71))]
    await database.complete(reading)
    assert await database.marks() == {1: BOUNDS[2], 2: BOUNDS[2]}
    assert await database.is_idle()


SLOWER = ReadLimits(125, timedelta(days=14))
PARTS = Window(BOUNDS[1], utc(2026, 2, 15)), Window(utc(2026, 2, 15), BOUNDS[2])


async def test_a_slower_pace_holds_for_the_group_and_splits_the_window(database: Database) -> None:
    await database.know(1, 2, 3)
    await database.read_to(START + timedelta(days=1), uuid(3))
    _, second, *_ = await database.open(backfill(uuid(1), uuid(2)))
    parts = await database.save_reduced(await database.keep_cursor(second, uuid(70)), SLOWER, *PARTS)
    assert [(part.window, part.cursor) for part in parts] == [(PARTS[0], None), (PARTS[1], None)]
    work = await database.work()
    assert [reading.window for reading in work.open] == [WINDOWS[0], *PARTS, *WINDOWS[2:]]
    assert all(reading.cursor is None and reading.group.read_limits == SLOWER for reading in work.open)
    assert work.watermarks == [Watermark(uuid(3), START + timedelta(days=1), ReadLimits())]
    for reading in work.open:
        await database.complete(reading)
    paces = {mark.voucher_id: mark.read_limits for mark in (await database.work()).watermarks}
    assert paces == {uuid(1): SLOWER, uuid(2): SLOWER, uuid(3): ReadLimits()}


async def test_a_slower_pace_is_kept_for_a_day(database: Database) -> None:
    await database.know(1)
    (reading,) = await database.open(backfill(uuid(1), windows=WINDOWS[:1]))
    for part in await database.save_reduced(reading, SLOWER, reading.window):
        await database.complete(part)
    slowed = "UPDATE sync.watermarks SET slowed_at = now() - make_interval(hours => :hours)"
    for hours, read_limits in ((23, SLOWER), (25, USUAL)):
        await execute(database.engine, slowed, hours=hours)
        assert (await database.work()).watermarks == [Watermark(uuid(1), BOUNDS[1], read_limits)]


async def test_a_watermark_waits_for_every_part_of_a_split_window(database: Database) -> None:
    for number, order in enumerate(permutations(range(3))):
        *_, last = await database.open(backfill(uuid(number), windows=WINDOWS[:2]))
        parts = await database.save_reduced(last, SLOWER, *PARTS)
        readings = [(await database.work()).open[0], *parts]
        left = [reading.window for reading in readings]
        for position in order:
            await database.complete(readings[position])
            left.remove(readings[position].window)
            expected = left[0].start if left else BOUNDS[2]
            assert (await database.marks())[number] == expected, order
        assert await database.is_idle()


async def test_a_window_that_was_not_written_down_can_be_split(database: Database) -> None:
    await database.know(1)
    await database.read_to(BOUNDS[1], uuid(1))
    parts = await database.save_reduced(WindowRead(Group((uuid(1),), ReadLimits()), WINDOWS[1]), SLOWER, *PARTS)
    assert await database.marks() == {1: BOUNDS[1]}
    assert [reading.window for reading in (await database.work()).open] == list(PARTS)
    await database.complete(parts[1])
    assert await database.marks() == {1: BOUNDS[1]}
    await database.complete(parts[0])
    assert (await database.work()).watermarks == [Watermark(uuid(1), BOUNDS[2], SLOWER)]
    assert await database.is_idle()


async def test_a_smaller_page_alone_begins_the_window_again(database: Database) -> None:
    (reading,) = await database.open(backfill(uuid(1), windows=WINDOWS[:1]))
    reading = await database.keep_cursor(reading, uuid(70))
    (part,) = await database.save_reduced(reading, ReadLimits(500), reading.window)
    assert (part.window, part.cursor) == (reading.window, None)
    assert [(one.window, one.cursor, one.group.read_limits) for one in (await database.work()).open] == [
        (WINDOWS[0], None, ReadLimits(500))
    ]


async def test_a_window_that_ends_after_its_plan_is_gone_changes_nothing(database: Database) -> None:
    first, second, *_ = await database.open(backfill(uuid(1)))
    await execute(database.engine, "DELETE FROM sync.plans")
    before = [await footprint(database.engine, table) for table in TABLES]
    await database.complete(first)
    await database.keep_cursor(second, uuid(70))
    assert [await footprint(database.engine, table) for table in TABLES] == before
    assert await database.is_idle()


async def test_a_window_that_is_split_after_its_plan_is_gone_changes_nothing(database: Database) -> None:
    _, second, *_ = await database.open(backfill(uuid(1)))
    await execute(database.engine, "DELETE FROM sync.plans")
    assert await database.save_reduced(second, SLOWER, *PARTS) == []
    assert await database.is_idle()


async def test_a_plan_that_is_extended_after_it_is_gone_stays_so(database: Database) -> None:
    await database.know(1)
    readings = await database.open(backfill(uuid(1), windows=WINDOWS[:2]))
    # As another process, begun a moment later, has loaded it.
    (group,) = {reading.group.plan_id: reading.group for reading in (await database.work()).open}.values()
    for reading in readings:
        await database.complete(reading)
    async with transaction(database.engine) as tx:
        assert await extend(tx, group, WINDOWS[2:3]) == []
    assert (await database.is_idle(), await database.marks()) == (True, {1: BOUNDS[2]})


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


@pytest.mark.parametrize("is_loaded", [False, True])
async def test_a_plan_that_is_extended_ends_later(database: Database, is_loaded: bool) -> None:
    first, second = await database.open(backfill(uuid(1), windows=WINDOWS[:2]))
    group = (await database.work()).open[0].group if is_loaded else first.group
    assert group.end == BOUNDS[2]
    async with transaction(database.engine) as tx:
        (third,) = await extend(tx, group, WINDOWS[2:3])
    assert (third, group.end) == (WindowRead(group, WINDOWS[2]), BOUNDS[3])
    assert [reading.window for reading in (await database.work()).open] == list(WINDOWS[:3])
    for reading, through in ((second, START), (first, BOUNDS[2]), (third, BOUNDS[3])):
        await database.complete(reading)
        assert await database.marks() == {1: through}
    assert await database.is_idle()


async def test_watermarks_beyond_a_clock_that_was_set_back_are_set_back_to_it(database: Database) -> None:
    await database.read_to(BOUNDS[1], uuid(1))
    await database.read_to(BOUNDS[3], uuid(2))
    (reading,) = await database.open(backfill(uuid(9), windows=[Window(START, BOUNDS[3])]), "other")
    await database.complete(reading)
    for _ in range(2):
        async with transaction(database.engine) as tx:
            await clamp_to_now(tx, CONNECTION, BOUNDS[2])
        assert await database.marks() == {1: BOUNDS[1], 2: BOUNDS[2], 9: BOUNDS[3]}


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


async def test_what_is_new_takes_the_place_of_an_open_window_that_begins_with_it(database: Database) -> None:
    """A pull that begins in the very second in which the one before ended leaves such a window, if it is cut short."""
    await database.know(1)
    await database.read_to(BOUNDS[1], uuid(1))
    opened = await database.keep_cursor(WindowRead(Group((uuid(1),), ReadLimits()), WINDOWS[0]), uuid(70))
    longer = Window(BOUNDS[0], BOUNDS[2])
    async with transaction(database.engine) as tx:
        (extended,) = await extend(tx, opened.group, [longer])
    assert [(one.window, one.cursor) for one in (await database.work()).open] == [(longer, None)]
    await database.complete(opened)
    assert await database.marks() == {1: BOUNDS[1]}
    await database.complete(extended)
    assert await database.marks() == {1: BOUNDS[2]}
    assert await database.is_idle()


async def test_a_part_that_an_open_window_holds_already_is_left_to_it(database: Database) -> None:
    await database.know(1)
    await database.read_to(BOUNDS[1], uuid(1))
    opened = await database.keep_cursor(WindowRead(Group((uuid(1),), ReadLimits()), WINDOWS[1]), uuid(70))
    async with transaction(database.engine) as tx:
        (extended,) = await extend(tx, opened.group, [Window(PARTS[1].start, BOUNDS[3])])
    parts = await database.save_reduced(opened, SLOWER, *PARTS)
    assert [part.window for part in parts] == [PARTS[0], *PARTS[2:]]
    for part in parts:
        await database.complete(part)
    assert await database.marks() == {1: PARTS[1].start}
    await database.complete(extended)
    assert await database.marks() == {1: BOUNDS[3]}
