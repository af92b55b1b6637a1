"""A window that the API can't answer in one piece is read in parts, and no watermark passes one that is left."""

from datetime import timedelta
from itertools import permutations

import pytest

from sync.mews.limits import Window
from sync.mirror.pending_reads import Group, WindowRead
from sync.mirror.watermarks import extend
from sync.mirror.windows import ReadLimits, Watermark
from sync.postgres.engine import transaction
from tests.mirror.helpers import BOUNDS, PARTS, SLOWER, START, WINDOWS, Database, backfill
from tests.support.database import execute, uuid


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


@pytest.mark.long
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


async def test_a_window_that_is_split_after_its_plan_is_gone_changes_nothing(database: Database) -> None:
    _, second, *_ = await database.open(backfill(uuid(1)))
    await execute(database.engine, "DELETE FROM sync.plans")
    assert await database.save_reduced(second, SLOWER, *PARTS) == []
    assert await database.is_idle()


async def test_a_part_that_an_open_window_holds_already_is_left_to_it(database: Database) -> None:
    await database.know(1)
    await database.read_to(BOUNDS[1], uuid(1))
    opened = await database.keep_cursor(WindowRead(Group((uuid(1),), ReadLimits()), WINDOWS[1]), uuid(70))
    async with transaction(database.engine) as tx:
        (extended,) = await extend(tx, opened.group, [Window(PARTS[1].start, BOUNDS[3])])
    parts = await database.save_reduced(opened, SLOWER, *PARTS)
    assert [part.window for part in parts] == [PARTS[0]]
    for part in parts:
        await database.complete(part)
    assert await database.marks() == {1: PARTS[1].start}
    await database.complete(extended)
    assert await database.marks() == {1: BOUNDS[3]}
