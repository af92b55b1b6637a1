"""What a process reserves of the budget while it makes few calls: it stands, and costs next to no writes."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mews.ledgers import LONGEST_CALL_S, WINDOW_S, Ledgers, begin, call, most_in_any_window, process
from tests.outages.virtual_clock import run_in_virtual_time


def test_a_process_at_ease_writes_once_in_five_minutes() -> None:
    run_in_virtual_time(be_at_ease())


async def be_at_ease() -> None:
    shared, arrivals = Ledgers(), list[float]()
    rate_limiter = process(shared, 200)

    async def pull_for(minutes: int) -> int:
        before = shared.written
        for second in range(0, 60 * minutes, 10):
            if second % 60 == 0:
                await call(rate_limiter, arrivals)
            await rate_limiter.renew()
            await asyncio.sleep(10)
        return shared.written - before

    await pull_for(5)
    assert await pull_for(60) <= 12
    began_s = asyncio.get_running_loop().time()
    for _ in range(190):  # what stands is no limit
        await call(rate_limiter, arrivals)
    assert asyncio.get_running_loop().time() - began_s < WINDOW_S
    assert most_in_any_window(arrivals) <= 200


@pytest.mark.long
@settings(max_examples=20)
@given(st.integers(1, 300), st.integers(0, 2**32), st.integers(1, 3))
def test_no_window_holds_more_than_the_limit_where_processes_are_at_ease_between(
    limit: int, seed: int, lanes: int
) -> None:
    run_in_virtual_time(rest_and_hurry(limit, seed, lanes))


async def rest_and_hurry(limit: int, seed: int, lanes: int) -> None:
    """In each lane a process at a time, at ease for minutes and then in a hurry, killed in either."""
    shared, arrivals, rng = Ledgers(), list[float](), random.Random(seed)

    async def live(lane: int) -> None:
        for life in range(4):
            rate_limiter, ledger = begin(shared, limit, seed + 100 * lane + life)
            hurry: list[asyncio.Task[None]] = []
            for _ in range(rng.randint(1, 4)):
                for _ in range(rng.randint(0, 20)):
                    await rate_limiter.renew()
                    await asyncio.sleep(rng.uniform(0, 20))
                hurry = [
                    asyncio.create_task(call(rate_limiter, arrivals, rng.choice([0.0, rng.uniform(0, LONGEST_CALL_S)])))
                    for _ in range(rng.choice([1, 2, 5, limit, 2 * limit]))
                ]
                await asyncio.sleep(rng.uniform(0, 60))
            ledger.is_killed = rng.random() < 0.7
            for one in hurry if ledger.is_killed else ():
                one.cancel()
            await asyncio.gather(*hurry, return_exceptions=True)
            if not ledger.is_killed:
                await rate_limiter.hand_over()
            await asyncio.sleep(rng.choice([0.0, rng.uniform(0, 60)]))

    await asyncio.gather(*(live(lane) for lane in range(lanes)))
    await asyncio.sleep(LONGEST_CALL_S)
    assert not arrivals or most_in_any_window(arrivals) <= limit
