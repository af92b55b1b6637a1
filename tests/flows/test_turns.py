"""A backfill of hours is read in turns: each ends between two pages, and what is new goes first in the next."""

import random
from datetime import timedelta

import pytest

from tests.flows.rig import (
    honest,
    ids,
    interval,
    later,
    mirrored,
    numbered,
    open_windows,
    reconnected,
    turn,
    watch,
    watermarks,
)
from tests.support.mirror import Mirror


async def years_of_codes(mirror: Mirror) -> None:
    """Two vouchers with codes in each window, in one of them more than two pages; discovered and not read yet."""
    voucher, other = mirror.add_voucher(days_old=900), mirror.add_voucher("Winter", days_old=700)
    for age in range(5, 700, 30):
        mirror.add_codes(voucher, numbered(3, f"{age}"), days_old=age)
        mirror.add_codes(other, numbered(3, f"W{age}"), days_old=age)
    mirror.add_codes(voucher, numbered(2200), days_old=450)
    await mirror.discover()


async def test_a_turn_that_is_over_ends_between_two_pages(mirror: Mirror) -> None:
    codes = mirror.add_codes(mirror.add_voucher(), numbered(2500))
    await mirror.discover()
    report = await mirror.pull(is_turn_over=turn(mirror, 2))
    assert (report.left_over, report.pages, report.written) == (True, 2, 2000)
    assert (report.caught_up, report.errors, report.stopped, report.windows_done) == (None, [], False, 0)
    report = await mirror.pull(is_turn_over=turn(mirror, 1))
    # Two, where a second has passed meanwhile: then there is a window of what is new.
    assert report.pages == report.windows_done
    assert report.windows_done in {1, 2}
    assert await mirrored(mirror) == {code.id for code in codes}


async def test_a_turn_without_time_reads_nothing_and_says_so(mirror: Mirror) -> None:
    await years_of_codes(mirror)
    report = await mirror.pull(is_turn_over=lambda: True)
    assert (report.left_over, report.pages, report.caught_up) == (True, 0, None)
    assert mirror.requests() == []


async def test_readers_stop_within_the_page_in_flight(mirror: Mirror) -> None:
    await years_of_codes(mirror)
    await mirror.pull(is_turn_over=turn(mirror, 1))
    assert len(mirror.requests()) <= 8


@pytest.mark.parametrize("requests", [1, 3, 9, 100])
async def test_turns_of_any_length_end_equal(mirror: Mirror, requests: int) -> None:
    await years_of_codes(mirror)
    found = watch(mirror)
    turns = 1
    while (await mirror.pull(is_turn_over=turn(mirror, requests))).left_over:
        turns += 1
        assert turns <= 40
    assert (turns == 1) == (requests == 100)
    assert (found, await honest(mirror)) == ([], [])
    assert (await mirror.compare()).is_equal


@pytest.mark.parametrize("seed", range(2))
async def test_turns_of_random_lengths_with_changes_and_new_processes_between_them_end_equal(
    mirror: Mirror, seed: int
) -> None:
    rng = random.Random(seed)
    await years_of_codes(mirror)
    found = watch(mirror)
    vouchers = list(mirror.world.vouchers.values())
    for number in range(6):
        voucher = rng.choice(vouchers)
        mirror.world.add_codes(voucher.id, numbered(rng.choice([1, 30, 1100]), f"TURN{number}"))
        mirror.world.delete_code(rng.choice(list(mirror.world.codes.truth)))
        if rng.random() < 0.3:
            vouchers.append(mirror.add_voucher(f"Found late {number}", days_old=rng.randint(1, 2000)))
        mirror.clock.advance(timedelta(seconds=rng.choice([1, 60, 3000])))
        async with reconnected(mirror):
            await mirror.discover()
            await mirror.pull(is_turn_over=turn(mirror, rng.randint(1, 6)))
    assert (await later(mirror)).caught_up is not None
    assert (found, await honest(mirror)) == ([], [])
    assert (await mirror.compare()).is_equal


async def test_what_is_new_in_mirrored_vouchers_is_read_before_a_backfill_goes_on(mirror: Mirror) -> None:
    mirrored_one = mirror.add_voucher(days_old=30)
    mirror.add_codes(mirrored_one, ["A"])
    await mirror.once()
    late = mirror.add_voucher("Found late", days_old=3500)
    await mirror.discover()
    for number in range(3):
        (new,) = mirror.world.add_codes(mirrored_one.id, [f"NEW-{number}"])
        mirror.clock.advance(timedelta(seconds=2))
        await mirror.discover()
        before = len(mirror.requests())
        report = await mirror.pull(is_turn_over=turn(mirror, 1))
        assert report.left_over
        assert ids(mirror.requests()[before]) == {mirrored_one.id}
        assert new.id in await mirrored(mirror)
        assert await open_windows(mirror)
    assert (await watermarks(mirror))[late.id] < (await watermarks(mirror))[mirrored_one.id]


async def test_windows_read_in_an_earlier_turn_are_not_read_again(mirror: Mirror) -> None:
    await years_of_codes(mirror)
    done: set[object] = set()
    while True:
        before = len(mirror.requests())
        report = await mirror.pull(is_turn_over=turn(mirror, 2))
        records = mirror.requests()[before:]
        if not report.left_over:
            break
        assert done.isdisjoint(map(interval, records))
        done |= {interval(record) for record in records if record.items != 1000}
    assert len(done) >= 8


async def test_the_rest_of_what_is_new_is_read_before_a_backfill_goes_on(mirror: Mirror) -> None:
    voucher = mirror.add_voucher(days_old=30)
    await mirror.once()
    mirror.world.add_codes(voucher.id, numbered(2500))
    mirror.clock.advance(timedelta(seconds=2))
    await mirror.discover()
    await mirror.pull(is_turn_over=turn(mirror, 1))
    mirror.add_voucher("Found late", days_old=3000)
    mirror.world.add_codes(voucher.id, ["URGENT"])
    mirror.clock.advance(timedelta(seconds=2))
    await mirror.discover()
    await mirror.pull(is_turn_over=turn(mirror, 24))
    assert (await mirror.compare()).is_equal
