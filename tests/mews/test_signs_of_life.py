"""What a replica has reserved counts while others see it alive, and it makes no call while they do not."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.mews.ledger import Entry, Others
from tests.mews.ledgers import LONGEST_CALL_S, WINDOW_S, LedgerInMemory, Ledgers, begin, call, most_in_any_window
from tests.outages.virtual_clock import run_in_virtual_time

TRUSTED_S = 9.0
LIMIT = 200
HOUR_S = 3600.0


class Beating:
    """A replica that calls the API now and then, and beats."""

    def __init__(self, shared: Ledgers, seed: int, limit: int = LIMIT) -> None:
        self.rate_limiter, self.ledger = begin(shared, limit, seed, trusted_s=TRUSTED_S)
        self.beating = asyncio.create_task(self.ledger.beat())
        self.calls: list[asyncio.Task[None]] = []

    async def rest(self, minutes: int) -> None:
        """A call a minute, after which what is reserved stands."""
        for _ in range(minutes):
            await call(self.rate_limiter, [])
            await self.rate_limiter.renew()
            await asyncio.sleep(60)

    def hurry(self, number: int, arrivals: list[float], rng: random.Random) -> None:
        """Many calls at once, which take a while on their way."""
        ways_s = [rng.choice([0.0, rng.uniform(0, LONGEST_CALL_S - 1)]) for _ in range(number)]
        self.calls += [asyncio.create_task(call(self.rate_limiter, arrivals, way_s)) for way_s in ways_s]

    async def end(self) -> None:
        """As a kill does."""
        self.ledger.is_killed = True
        for one in (self.beating, *self.calls):
            one.cancel()
        await asyncio.gather(self.beating, *self.calls, return_exceptions=True)


async def taken_by_others(ledger: LedgerInMemory) -> int:
    """What a process sees reserved, which reserves nothing."""
    seen: list[Others] = []

    def decide(others: Others) -> Entry:
        seen.append(others)
        return Entry(0, (), is_waiting=False)

    await ledger.write(decide)
    return seen[-1].taken


def test_what_stood_for_one_that_died_is_free_once_its_last_call_must_be_over() -> None:
    async def main() -> None:
        shared = Ledgers()
        dead = Beating(shared, 1)
        await dead.rest(minutes=10)
        (standing,) = shared.entries.values()
        assert (standing.reserved, standing.counts_for_s > 600) == (5, True)
        await dead.end()
        _, successor = begin(shared, LIMIT, 2, trusted_s=TRUSTED_S)
        taken = [await taken_by_others(successor)]
        for wait_s in (TRUSTED_S + LONGEST_CALL_S + WINDOW_S - 1, 2):
            await asyncio.sleep(wait_s)
            taken.append(await taken_by_others(successor))
        assert taken == [5, 5, 0]

    run_in_virtual_time(main())


@pytest.mark.long
def test_one_that_others_see_alive_writes_a_few_times_a_day() -> None:
    async def main() -> None:
        shared = Ledgers()
        alive = Beating(shared, 1)
        await alive.rest(minutes=10)
        before = shared.written
        await alive.rest(minutes=6 * 60)
        assert 1 <= shared.written - before <= 2
        await alive.end()

    run_in_virtual_time(main())


def test_what_stands_for_one_that_beats_counts_however_long_it_writes_nothing() -> None:
    async def main() -> None:
        shared = Ledgers()
        alive = Beating(shared, 1)
        await alive.rest(minutes=10)
        _, other = begin(shared, LIMIT, 2, trusted_s=TRUSTED_S)
        for _ in range(2):
            assert await taken_by_others(other) == 5
            await asyncio.sleep(TRUSTED_S + LONGEST_CALL_S + WINDOW_S + 1)
        assert await taken_by_others(other) == 5
        await alive.end()

    run_in_virtual_time(main())


def test_one_that_others_do_not_see_spends_nothing_and_reserves_anew_once_they_do() -> None:
    async def main() -> None:
        shared, arrivals = Ledgers(), list[float]()
        zombie = Beating(shared, 1)
        await zombie.rest(minutes=10)
        zombie.ledger.is_cut_off = True
        await asyncio.sleep(2 * TRUSTED_S)
        assert not zombie.rate_limiter.is_free
        await asyncio.sleep(HOUR_S / 60)
        before, zombie.ledger.is_cut_off = shared.written, False
        await asyncio.sleep(5)
        assert not zombie.rate_limiter.is_free, "others may count what it had reserved no more"
        await call(zombie.rate_limiter, arrivals)
        assert (len(arrivals), shared.written - before >= 1) == (1, True)
        await zombie.end()

    run_in_virtual_time(main())


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(st.integers(5, 60), st.integers(0, 2**32))
def test_no_window_holds_more_than_the_limit_whoever_is_cut_off_or_killed_and_comes_back(limit: int, seed: int) -> None:
    run_in_virtual_time(come_and_go(limit, seed))


async def come_and_go(limit: int, seed: int) -> None:
    """Two at a time, each at ease for minutes, cut off for some, and in a hurry before, after or meanwhile."""
    shared, arrivals, rng = Ledgers(), list[float](), random.Random(seed)

    async def live(lane: int) -> None:
        for number in range(4):
            life = Beating(shared, seed + 100 * lane + number, limit)
            for _ in range(rng.randint(1, 4)):
                for _ in range(rng.randint(0, 10)):
                    life.hurry(1, arrivals, rng)
                    await asyncio.sleep(rng.uniform(0, 60))
                life.ledger.is_cut_off = rng.random() < 0.5
                await asyncio.sleep(rng.choice([0.0, rng.uniform(0, 300)]))
                life.hurry(rng.randint(0, 2 * limit), arrivals, rng)
                await asyncio.sleep(rng.uniform(0, 20))
                life.ledger.is_cut_off = False
                await asyncio.sleep(rng.uniform(0, 20))
            await life.end()

    await asyncio.gather(*(live(lane) for lane in range(2)))
    await asyncio.sleep(LONGEST_CALL_S)
    assert not arrivals or most_in_any_window(arrivals) <= limit
