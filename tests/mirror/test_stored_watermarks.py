"""A watermark never passes a window that is still open, never goes back, and open windows outlive their process."""

import asyncio
from datetime import timedelta
from itertools import permutations

import pytest

from sync.mews.limits import Window
from sync.mirror.pending_reads import Group, WindowRead
from sync.mirror.watermarks import clamp_to_now, complete, extend
from sync.mirror.windows import ReadLimits
from sync.postgres.engine import transaction
from tests.mirror.helpers import BOUNDS, END, START, TABLES, WINDOWS, Database, backfill, incremental
from tests.support.database import CONNECTION, blocked, execute, footprint, rows, uuid
from tests.support.instants import utc


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


@pytest.mark.long
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


async def test_a_window_that_ends_after_its_plan_is_gone_changes_nothing(database: Database) -> None:
    first, second, *_ = await database.open(backfill(uuid(1)))
    await execute(database.engine, "DELETE FROM sync.plans")
    before = [await footprint(database.engine, table) for table in TABLES]
    await database.complete(first)
    await database.keep_cursor(second, uuid(70))
    assert [await footprint(database.engine, table) for table in TABLES] == before
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
