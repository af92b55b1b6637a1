"""Only the server's clock counts: neither this machine's, wrong by a day, nor a jump of the server's loses a change."""

from datetime import UTC, datetime, timedelta

import pytest

from sync.demo.simulator import Operation, OtherUsers, RequestRecord
from tests.support.flows import (
    at_page,
    honest,
    interval,
    later,
    note_caught_up,
    numbered,
    page_size,
    pull_later,
    watch,
    watermarks,
)
from tests.support.mirror import Mirror

SHIFTS = {
    "an hour ahead": timedelta(hours=1),
    "an hour behind": timedelta(hours=-1),
    "a day ahead": timedelta(days=1),
    "a day behind": timedelta(days=-1),
    "ten years ahead": timedelta(days=3650),
}


@pytest.mark.sampled
@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS.keys())
async def test_a_server_whose_clock_differs_from_ours_is_mirrored_all_the_same(
    mirror: Mirror, shift: timedelta
) -> None:
    mirror.clock.shift = shift
    others = OtherUsers(mirror.world, seed=7)
    voucher = mirror.add_voucher(days_old=200)
    mirror.add_codes(voucher, numbered(50), days_old=100)

    async def change(_: RequestRecord) -> None:
        others.step()

    mirror.simulator.on_answer = change
    found = watch(mirror)
    for _ in range(4):
        await later(mirror, 30)
    mirror.simulator.on_answer = None
    await note_caught_up(mirror, await later(mirror))
    assert (await mirror.compare()).is_equal
    assert (found, await honest(mirror)) == ([], [])
    now = mirror.clock()
    assert all(interval(record)[1] <= now for record in mirror.requests())
    rows = await mirror.rows("SELECT complete_through FROM mews.coverage")
    assert all(now - timedelta(minutes=1) < row["complete_through"] <= now for row in rows)


@pytest.mark.parametrize("shift", [timedelta(hours=-1), timedelta(hours=1)])
async def test_no_request_goes_by_this_machine_s_clock(mirror: Mirror, shift: timedelta) -> None:
    mirror.clock.shift = shift
    mirror.add_voucher(days_old=1)
    await mirror.once()
    ends = [interval(record)[1] for record in mirror.requests()]
    assert all(abs(end - datetime.now(UTC) - shift) < timedelta(minutes=1) for end in ends)


@pytest.mark.long
async def test_a_clock_set_back_by_an_hour_stops_nothing_and_loses_nothing(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=30)
    edited, deleted, *_ = mirror.add_codes(voucher, numbered(20))
    await mirror.once()
    mirror.clock.advance(timedelta(hours=-1))
    for step in range(8):
        mirror.world.add_codes(voucher.id, [f"BACK-{step}"])
        await pull_later(mirror, 60)
    mirror.world.edit_code(edited.id, validity_end_utc=mirror.world.now())
    mirror.world.delete_code(deleted.id)
    for _ in range(32):
        await pull_later(mirror, 110)
    mirror.world.add_codes(voucher.id, ["AHEAD AGAIN"])
    assert (await pull_later(mirror, 60)).errors == []
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_clock_set_back_in_the_middle_of_a_backfill_stops_nothing_and_loses_nothing(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=1500)
    for age in range(10, 1500, 50):
        mirror.add_codes(voucher, [f"{age}"], days_old=age)

    def put_back(_: RequestRecord) -> None:
        mirror.clock.advance(timedelta(hours=-1))
        mirror.world.add_codes(voucher.id, ["BACK"])

    at_page(mirror, 5, put_back)
    await mirror.once()
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(days=200)])
async def test_a_clock_that_jumps_ahead_leaves_no_gap(mirror: Mirror, jump: timedelta) -> None:
    voucher = mirror.add_voucher(days_old=30)
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    through = (await watermarks(mirror))[voucher.id]
    mirror.world.add_codes(voucher.id, ["BEFORE"])
    mirror.clock.advance(jump)
    mirror.world.add_codes(voucher.id, ["AFTER"])
    before = len(mirror.requests())
    await later(mirror)
    assert (await mirror.compare()).is_equal
    assert min(interval(record)[0] for record in mirror.requests()[before:]) < through


async def test_a_new_process_asks_the_server_for_its_time_before_it_plans(mirror: Mirror) -> None:
    mirror.clock.shift = timedelta(days=-1)
    mirror.add_codes(mirror.add_voucher(), ["A"])
    await mirror.discover()
    before = len(mirror.simulator.requests)
    async with mirror.connected():
        await mirror.pull()
    first, *others = list(mirror.simulator.requests)[before:]
    assert (first.operation, page_size(first)) == (Operation.GET_ENTERPRISES, 1)
    assert all(interval(record)[1] <= mirror.clock() for record in others)
    assert (await mirror.compare()).is_equal


async def test_after_a_clock_was_set_back_an_outage_longer_than_the_overlap_loses_nothing(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    mirror.clock.advance(-timedelta(hours=1))
    await later(mirror)
    mirror.clock.advance(timedelta(seconds=10))
    mirror.world.add_codes(voucher.id, ["LOST"])
    await later(mirror, 600)  # ten minutes without a pull
    await later(mirror, 7200)
    assert (await mirror.compare()).is_equal


@pytest.mark.parametrize("is_quiet", [True, False])
async def test_a_date_that_was_ahead_for_longer_than_the_overlap_loses_nothing(
    mirror: Mirror, *, is_quiet: bool
) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await mirror.once()
    mirror.simulator.behaviour.date_ahead_s = 3600
    await later(mirror)
    for number in range(3):
        mirror.world.add_codes(voucher.id, [f"UNSEEN-{number}"])
        if not is_quiet:
            mirror.add_codes(voucher, [f"SEEN-{number}"], days_old=-3600 / 86400)
        await later(mirror, 200)
    mirror.simulator.behaviour.date_ahead_s = 0
    await later(mirror)
    mirror.simulator.behaviour.date_ahead_s = 3600
    await later(mirror, 3700)
    assert (await mirror.compare()).is_equal


async def test_of_a_date_that_was_put_ahead_twice_it_is_read_on_from_the_first_time(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    for ahead_s in (3600, 7200):
        mirror.simulator.behaviour.date_ahead_s = ahead_s
        await later(mirror)
        mirror.world.add_codes(voucher.id, [f"UNSEEN-{ahead_s}"])
        await later(mirror, 200)
    mirror.simulator.behaviour.date_ahead_s = 0
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_no_watermark_stays_beyond_a_clock_that_was_set_back(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=300)
    mirror.add_codes(voucher, ["A"])
    await mirror.discover()
    at_page(mirror, 2, lambda _: mirror.clock.advance(-timedelta(hours=1)))
    await mirror.pull()
    assert await honest(mirror) == []
