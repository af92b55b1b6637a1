"""The budget as the server sees it: whatever the network does to requests on their way, never over the limit."""

import asyncio
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.mews.ledger import CLOCK_TOLERANCE
from sync.mews.rate_limiter import Priority, RateLimiter


class StopWatch:
    """A clock that moves only while something waits for it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def most_in_any_window(arrivals: list[float], window_s: float) -> int:
    return max(sum(1 for other in arrivals if start <= other < start + window_s) for start in arrivals)


@settings(max_examples=50)
@given(st.integers(1, 8), st.integers(0, 2**32), st.integers(9, 40))
def test_no_window_of_arrivals_holds_more_than_the_limit(limit: int, seed: int, requests: int) -> None:
    rng = random.Random(seed)
    watch = StopWatch()
    rate_limiter = RateLimiter(limit, 30.0, clock=watch, pause=watch.pause)
    arrivals = []

    async def send_all() -> None:
        for _ in range(requests):
            async with rate_limiter.permit():
                # The way there and the way back each take any time at all.
                watch.now += rng.choice([0.0, 0.01, rng.uniform(0, 40)])
                arrivals.append(watch.now)
                watch.now += rng.choice([0.0, 0.01, rng.uniform(0, 40)])

    asyncio.run(send_all())
    assert most_in_any_window(arrivals, 30.0) <= limit


async def test_requests_under_way_at_once_all_count() -> None:
    watch = StopWatch()
    rate_limiter = RateLimiter(3, 30.0, clock=watch, pause=watch.pause)
    arrivals: list[float] = []
    answer = asyncio.Event()

    async def send() -> None:
        async with rate_limiter.permit():
            arrivals.append(watch.now)
            await answer.wait()

    first = [asyncio.create_task(send()) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(arrivals) == 3
    assert rate_limiter.spent() == 3
    answer.set()
    await asyncio.gather(*first)
    await send()
    assert arrivals[3] >= arrivals[2] + 30.0


async def test_it_is_spent_to_the_full_without_waste() -> None:
    watch = StopWatch()
    rate_limiter = RateLimiter(200, 30.0, clock=watch, pause=watch.pause)
    began = watch.now
    for _ in range(2000):
        async with rate_limiter.permit():
            watch.now += 0.02
    assert watch.now - began <= 9 * 30.0 * CLOCK_TOLERANCE + 2000 * 0.02


async def test_a_hold_lets_nothing_through() -> None:
    watch = StopWatch()
    rate_limiter = RateLimiter(200, 30.0, clock=watch, pause=watch.pause)
    rate_limiter.be_silent(12.0)
    rate_limiter.be_silent(3.0)
    async with rate_limiter.permit():
        assert watch.now == 1012.0


async def test_a_cancelled_wait_takes_no_place() -> None:
    watch = StopWatch()
    never = asyncio.Event()

    async def wait_for_ever(seconds: float) -> None:
        await never.wait()

    rate_limiter = RateLimiter(1, 30.0, clock=watch, pause=wait_for_ever)
    async with rate_limiter.permit():
        waiting = asyncio.create_task(rate_limiter.permit().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    watch.now += 31.0
    async with rate_limiter.permit():
        assert rate_limiter.spent() == 1


async def test_pushes_go_before_pulls_but_for_one_place_in_41() -> None:
    watch = StopWatch()
    rate_limiter = RateLimiter(1, 30.0, clock=watch, pause=watch.pause)
    order: list[Priority] = []

    async def send(priority: Priority) -> None:
        async with rate_limiter.permit(priority):
            order.append(priority)

    async with asyncio.TaskGroup() as sending:
        for priority in [Priority.PULL] * 3 + [Priority.PUSH] * 60:
            sending.create_task(send(priority))
    assert [place for place, priority in enumerate(order) if priority is Priority.PULL] == [0, 1, 42]


async def test_while_pushes_are_backlogged_pulls_take_no_more_than_their_share_of_a_window() -> None:
    watch = StopWatch()
    rate_limiter = RateLimiter(100, 30.0, clock=watch, pause=watch.pause)
    arrivals = []
    with rate_limiter.backlogged():
        for _ in range(9):
            async with rate_limiter.permit(Priority.PULL):
                arrivals.append(watch.now)
        async with rate_limiter.permit(Priority.PUSH):
            pushed = watch.now
    assert most_in_any_window(arrivals, 30.0) == 2
    assert pushed == arrivals[-1]
    before = watch.now
    for _ in range(20):
        async with rate_limiter.permit(Priority.PULL):
            assert watch.now == before


async def test_a_place_in_which_nothing_is_sent_is_free_again_at_once() -> None:
    watch = StopWatch()
    rate_limiter = RateLimiter(1, 30.0, clock=watch, pause=watch.pause)
    for _ in range(5):
        async with rate_limiter.permit() as permit:
            permit.is_used = False
    assert watch.now == 1000.0


async def test_who_gives_up_waiting_keeps_nobody_back() -> None:
    watch = StopWatch()
    rate_limiter = RateLimiter(1, 30.0, clock=watch, pause=watch.pause)
    async with rate_limiter.permit():
        waiting = [asyncio.create_task(_take_permit(rate_limiter)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting[:4]:
            task.cancel()
    await waiting[4]
    assert all(task.cancelled() for task in waiting[:4])


async def test_who_gives_up_behind_one_who_waits_for_long_takes_no_room() -> None:
    watch, silence = StopWatch(), asyncio.Event()

    async def wait(seconds: float) -> None:
        await silence.wait()

    rate_limiter = RateLimiter(1, 30.0, clock=watch, pause=wait)
    async with rate_limiter.permit():
        first = asyncio.create_task(_take_permit(rate_limiter))
        await asyncio.sleep(0)

        async def give_up(times: int) -> int:
            for _ in range(times):
                waiting = asyncio.create_task(_take_permit(rate_limiter))
                await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait([waiting])
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            began_with = await give_up(100)
            assert await give_up(1000) - began_with < 16_000  # a future takes 100
        finally:
            tracemalloc.stop()
    watch.now += 31.0
    silence.set()
    await first


async def _take_permit(rate_limiter: RateLimiter) -> None:
    async with rate_limiter.permit():
        return


async def test_an_audit_gets_a_quarter_of_the_places() -> None:
    watch = StopWatch()
    rate_limiter = RateLimiter(8, 30.0, clock=watch, pause=watch.pause)
    began = watch.now
    for _ in range(2):
        async with rate_limiter.permit(Priority.AUDIT):
            assert watch.now == began
    async with rate_limiter.permit(Priority.PULL):
        assert watch.now == began
    async with rate_limiter.permit(Priority.AUDIT):
        assert watch.now >= began + 30


async def test_an_audit_whose_share_is_lifted_gets_every_place_that_nothing_else_waits_for() -> None:
    watch = StopWatch()
    rate_limiter = RateLimiter(8, 30.0, clock=watch, pause=watch.pause)
    rate_limiter.lift_audit_share()
    began = watch.now
    for _ in range(8):
        async with rate_limiter.permit(Priority.AUDIT):
            assert watch.now == began
    order: list[Priority] = []

    async def ask(priority: Priority) -> None:
        async with rate_limiter.permit(priority):
            order.append(priority)

    async with asyncio.TaskGroup() as asking:
        for priority in (Priority.PULL, Priority.AUDIT, Priority.PULL, Priority.PUSH):
            asking.create_task(ask(priority))
    assert order == [Priority.PULL, Priority.PUSH, Priority.PULL, Priority.AUDIT]
    assert watch.now >= began + 30


async def test_an_audit_waits_for_a_push_to_end() -> None:
    watch = StopWatch()
    rate_limiter = RateLimiter(8, 30.0, clock=watch, pause=watch.pause)

    async def audit() -> None:
        async with rate_limiter.permit(Priority.AUDIT):
            pass

    with rate_limiter.backlogged():
        waiting = asyncio.create_task(audit())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


@pytest.mark.parametrize("priority", Priority)
async def test_what_has_been_asked_for_days_takes_no_room(priority: Priority) -> None:
    """A service that lives for months asks once a minute, of each of thousands of hotels."""
    watch = StopWatch()
    rate_limiter = RateLimiter(200, 30.0, clock=watch, pause=watch.pause)

    async def ask(times: int) -> int:
        for _ in range(times):
            watch.now += 60.0
            async with rate_limiter.permit(priority):
                pass
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        began_with = await ask(100)
        assert await ask(5_000) - began_with < 16_000  # 3 bytes for each; an instant takes 32
    finally:
        tracemalloc.stop()
