"""The budget as the server sees it, spent by processes that follow each other, work together, and are killed."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.core.errors import DatabaseUnavailable
from sync.mews.portions import ASK_AGAIN_S, PORTIONS
from sync.mews.rate_limiter import RateLimiter
from sync.signals import Signal
from tests.mews.ledgers import (
    COUNTS_FOR_S,
    GOOD_FOR_S,
    LONGEST_CALL_S,
    WINDOW_S,
    Ledgers,
    begin,
    call,
    most_in_any_window,
    process,
)
from tests.outages.virtual_clock import run_in_virtual_time


@pytest.mark.long
@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(0, 2**32), st.integers(1, 3))
def test_no_window_holds_more_than_the_limit_whoever_is_killed(limit: int, seed: int, lanes: int) -> None:
    run_in_virtual_time(kill_and_start(limit, seed, lanes))


async def kill_and_start(limit: int, seed: int, lanes: int) -> None:
    """In each lane a process at a time, each killed or stopped at some moment, and another started behind it."""
    shared, arrivals, rng = Ledgers(), list[float](), random.Random(seed)

    async def work(rate_limiter: RateLimiter, stop: Signal) -> None:
        while not stop.is_set():
            way_s = rng.choice([0.0, 0.01, rng.uniform(0, LONGEST_CALL_S)])
            await call(rate_limiter, arrivals, way_s)
            await asyncio.sleep(rng.choice([0.0, 0.0, rng.uniform(0, 20)]))

    async def live(lane: int) -> None:
        for life in range(6):
            rate_limiter, ledger = begin(shared, limit, seed + 100 * lane + life)
            stop = Signal()
            workers = [asyncio.create_task(work(rate_limiter, stop)) for _ in range(rng.randint(1, 5))]
            await asyncio.sleep(rng.choice([rng.uniform(0, 3), rng.uniform(0, 100)]))
            stop.set()
            ledger.is_killed = rng.random() < 0.7
            if ledger.is_killed:  # what it was about to commit is committed all the same
                for worker in workers:
                    worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            if not ledger.is_killed:
                await rate_limiter.hand_over()
            await asyncio.sleep(rng.choice([0.0, rng.uniform(0, 60)]))

    await asyncio.gather(*(live(lane) for lane in range(lanes)))
    await asyncio.sleep(LONGEST_CALL_S)
    assert not arrivals or most_in_any_window(arrivals) <= limit


def test_a_restart_loses_nothing_of_the_budget() -> None:
    run_in_virtual_time(restart())


async def restart() -> None:
    shared, loop, arrivals = Ledgers(), asyncio.get_running_loop(), list[float]()
    before = process(shared, 200)
    for _ in range(150):
        await call(before, arrivals)
    await before.hand_over()
    after = process(shared, 200)
    began_s = loop.time()
    for _ in range(50):
        await call(after, arrivals)
    assert loop.time() - began_s < 5
    await call(after, arrivals)
    assert loop.time() - arrivals[0] >= WINDOW_S
    assert loop.time() - arrivals[0] < WINDOW_S + 5
    assert most_in_any_window(arrivals) == 200


def test_a_crash_costs_what_was_reserved_until_it_cannot_be_spent_any_more() -> None:
    run_in_virtual_time(crash())


async def crash() -> None:
    shared, loop, arrivals = Ledgers(), asyncio.get_running_loop(), list[float]()
    before = process(shared, 200)
    for _ in range(5):
        await call(before, arrivals)
    await asyncio.sleep(1)
    (left,) = shared.entries.values()
    taken = left.reserved + len(left.ages_s)
    assert 5 < taken <= 5 + 200 / PORTIONS
    after = process(shared, 200)
    began_s = loop.time()
    for _ in range(200 - taken):
        await call(after, arrivals)
    assert loop.time() - began_s < 5
    for _ in range(taken):
        await call(after, arrivals)
    assert loop.time() - began_s >= WINDOW_S
    await asyncio.sleep(COUNTS_FOR_S)
    began_s = loop.time()
    for _ in range(200):
        await call(after, arrivals)
    assert loop.time() - began_s < 5
    assert len(shared.entries) == 1


def test_what_was_reserved_before_a_sleep_of_the_machine_is_not_spent_after_it() -> None:
    run_in_virtual_time(sleep_and_wake())


async def sleep_and_wake() -> None:
    """Meanwhile another process, on another machine, takes that for over, and spends the whole budget."""
    shared, arrivals = Ledgers(), list[float]()
    (sleeper, machine), awake = begin(shared, 200, 1), process(shared, 200, seed=2)
    await call(sleeper, arrivals)
    await call(awake, arrivals)
    machine.slept_s = 3 * COUNTS_FOR_S
    await asyncio.sleep(machine.slept_s)
    for _ in range(200):
        await call(awake, arrivals)
    for _ in range(10):
        await call(sleeper, arrivals)
    assert most_in_any_window(arrivals) <= 200


@pytest.mark.long
def test_two_that_have_much_to_do_share_the_budget_and_one_alone_has_all_of_it() -> None:
    run_in_virtual_time(share())


async def share() -> None:
    shared, loop = Ledgers(), asyncio.get_running_loop()
    first, second = process(shared, 200, seed=1), process(shared, 200, seed=2)
    of_first, of_second = list[float](), list[float]()

    async def work(rate_limiter: RateLimiter, arrivals: list[float]) -> None:
        while True:
            await call(rate_limiter, arrivals, 0.05)

    workers = [asyncio.create_task(work(first, of_first)) for _ in range(8)]
    await asyncio.sleep(90)
    assert len(of_first) >= 550
    came_s = loop.time()
    others = [asyncio.create_task(work(second, of_second)) for _ in range(8)]
    await asyncio.sleep(360)
    for worker in (*workers, *others):
        worker.cancel()
    await asyncio.gather(*workers, *others, return_exceptions=True)
    at_ease = [[at_s for at_s in arrivals if at_s >= came_s + 120] for arrivals in (of_first, of_second)]
    assert all(0.4 <= len(one) / sum(map(len, at_ease)) <= 0.6 for one in at_ease)
    assert of_second[0] - came_s <= WINDOW_S + 5
    assert most_in_any_window(of_first + of_second) <= 200
    assert sum(map(len, at_ease)) >= 0.9 * 200 * 240 / WINDOW_S


def test_writing_down_costs_little_and_nothing_is_written_for_nobody() -> None:
    run_in_virtual_time(count_writes())


async def count_writes() -> None:
    shared, arrivals = Ledgers(), list[float]()
    rate_limiter = process(shared, 200)
    for _ in range(2000):
        await call(rate_limiter, arrivals, 0.02)
    assert shared.written <= 2000 / 5
    written = shared.written
    await asyncio.sleep(3600)
    assert shared.written == written


def test_what_is_reserved_may_be_spent_without_the_database_and_no_more() -> None:
    run_in_virtual_time(lose_ledger())


async def lose_ledger() -> None:
    shared, arrivals = Ledgers(), list[float]()
    rate_limiter = process(shared, 200)
    await call(rate_limiter, arrivals)
    shared.is_away = True
    made = 0
    try:
        while True:
            await call(rate_limiter, arrivals)
            made += 1
    except DatabaseUnavailable:
        pass
    assert 1 <= made < 200 / PORTIONS
    shared.is_away = False
    await call(rate_limiter, arrivals)
    await asyncio.sleep(GOOD_FOR_S)
    shared.is_away = True
    try:
        await call(rate_limiter, arrivals)
    except DatabaseUnavailable:
        return
    raise AssertionError("a reservation that is over was spent")


def test_no_call_goes_into_a_silence_that_was_asked_for_while_it_was_written_down() -> None:
    run_in_virtual_time(be_silent())


async def be_silent() -> None:
    shared, arrivals = Ledgers(), list[float]()
    rate_limiter = process(shared, 200)
    async with shared.lock:
        waiting = asyncio.create_task(call(rate_limiter, arrivals))
        await asyncio.sleep(1)
        rate_limiter.be_silent(60)
        ends_s = asyncio.get_running_loop().time() + 60
    await waiting
    assert arrivals[0] >= ends_s


def test_a_call_after_a_quiet_time_need_not_wait_where_the_reservation_is_renewed() -> None:
    run_in_virtual_time(renew())


async def renew() -> None:
    shared, arrivals = Ledgers(), list[float]()
    rate_limiter = process(shared, 200)
    await call(rate_limiter, arrivals)
    for _ in range(100):
        await asyncio.sleep(GOOD_FOR_S / 3)
        await rate_limiter.renew()
    written = shared.written
    assert written <= 60
    await call(rate_limiter, arrivals)
    assert shared.written == written
    assert ASK_AGAIN_S < GOOD_FOR_S / 3
