"""The budget as the server sees it, spent by processes that follow each other, work together, and are killed."""

import asyncio
import random
from collections.abc import Callable
from uuid import UUID, uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from sync.connection.reservations import Reservation, ReservationWatch
from sync.core.errors import DatabaseUnavailable
from sync.mews.allowance import ASK_AGAIN_S, PORTIONS
from sync.mews.ledger import Entry, Others
from sync.mews.rate_limiter import RateLimiter
from tests.outages.virtual_clock import run_leaping

WINDOW_S, GOOD_FOR_S, LONGEST_CALL_S = 30.0, 20.0, 40.0
COUNTS_FOR_S = GOOD_FOR_S + LONGEST_CALL_S + WINDOW_S


class Ledgers:
    """What the processes of one token have written down, in memory. `is_away`: nobody can write."""

    def __init__(self) -> None:
        self.entries: dict[UUID, Reservation] = {}
        self.lock = asyncio.Lock()
        self.is_away = False
        self.written = 0


class LedgerInMemory:
    """A process's own view of them, by a clock of its own; each writing takes a while, before and after it stands."""

    good_for_s = GOOD_FOR_S

    def __init__(self, shared: Ledgers, clock: Callable[[], float], rng: random.Random) -> None:
        self._shared = shared
        self._clock = clock
        self._rng = rng
        self._process = uuid4()
        self._watch = ReservationWatch(WINDOW_S, GOOD_FOR_S)
        self.is_killed = False

    async def write(self, decide: Callable[[Others], Entry]) -> None:
        async with self._shared.lock:
            await asyncio.sleep(self._rng.uniform(0, 0.1))
            if self._shared.is_away or self.is_killed:
                raise DatabaseUnavailable("away")
            beside = [one for process, one in self._shared.entries.items() if process != self._process]
            others, over = self._watch.look(beside, self._clock())
            entry = decide(others)
            await asyncio.sleep(self._rng.uniform(0, 0.1))
            for process in over:
                del self._shared.entries[process]
            self._shared.written += 1
            beat = self._shared.written
            good_for_s = GOOD_FOR_S if entry.good_for_s is None else entry.good_for_s
            counts_for_s = COUNTS_FOR_S - GOOD_FOR_S + good_for_s
            self._shared.entries[self._process] = Reservation(
                self._process, beat, entry.reserved, entry.ages_s, entry.is_waiting, counts_for_s
            )
        await asyncio.sleep(self._rng.uniform(0, 0.1))


def process(shared: Ledgers, limit: int, seed: int = 1) -> RateLimiter:
    """What a process starts with."""
    return begin(shared, limit, seed)[0]


def begin(shared: Ledgers, limit: int, seed: int) -> tuple[RateLimiter, LedgerInMemory]:
    """What a process starts with; its clock began at any time."""
    rng = random.Random(seed)
    loop, offset = asyncio.get_running_loop(), rng.uniform(0, 1e6)

    def clock() -> float:
        return loop.time() + offset

    ledger = LedgerInMemory(shared, clock, rng)
    return RateLimiter(limit, WINDOW_S, clock=clock, pause=asyncio.sleep, ledger=ledger), ledger


async def call(rate_limiter: RateLimiter, arrivals: list[float], way_s: float = 0.0) -> None:
    """One request, which arrives after `way_s` even where its sender is killed meanwhile."""
    async with rate_limiter.permit():
        arriving = asyncio.create_task(arrive(arrivals, way_s))
        await asyncio.shield(arriving)


async def arrive(arrivals: list[float], way_s: float) -> None:
    await asyncio.sleep(way_s)
    arrivals.append(asyncio.get_running_loop().time())


def most_in_any_window(arrivals: list[float]) -> int:
    return max(sum(1 for other in arrivals if start <= other < start + WINDOW_S) for start in arrivals)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(0, 2**32), st.integers(1, 3))
def test_no_window_holds_more_than_the_limit_whoever_is_killed(limit: int, seed: int, lanes: int) -> None:
    run_leaping(kill_and_start(limit, seed, lanes))


async def kill_and_start(limit: int, seed: int, lanes: int) -> None:
    """In each lane a process at a time, each killed or stopped at some moment, and another started behind it."""
    shared, arrivals, rng = Ledgers(), list[float](), random.Random(seed)

    async def work(rate_limiter: RateLimiter, stop: asyncio.Event) -> None:
        while not stop.is_set():
            way_s = rng.choice([0.0, 0.01, rng.uniform(0, LONGEST_CALL_S)])
            await call(rate_limiter, arrivals, way_s)
            await asyncio.sleep(rng.choice([0.0, 0.0, rng.uniform(0, 20)]))

    async def live(lane: int) -> None:
        for life in range(6):
            rate_limiter, ledger = begin(shared, limit, seed + 100 * lane + life)
            stop = asyncio.Event()
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
    run_leaping(restart())


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
    run_leaping(crash())


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


def test_two_that_have_much_to_do_share_the_budget_and_one_alone_has_all_of_it() -> None:
    run_leaping(share())


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
    settled = [[at_s for at_s in arrivals if at_s >= came_s + 120] for arrivals in (of_first, of_second)]
    assert all(0.4 <= len(one) / sum(map(len, settled)) <= 0.6 for one in settled)
    assert of_second[0] - came_s <= WINDOW_S + 5
    assert most_in_any_window(of_first + of_second) <= 200
    assert sum(map(len, settled)) >= 0.9 * 200 * 240 / WINDOW_S


def test_writing_down_costs_little_and_nothing_is_written_for_nobody() -> None:
    run_leaping(count_writes())


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
    run_leaping(lose_ledger())


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


def test_a_call_after_a_quiet_time_need_not_wait_where_the_reservation_is_renewed() -> None:
    run_leaping(renew())


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


def test_a_process_at_ease_writes_once_in_five_minutes() -> None:
    run_leaping(be_at_ease())


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


@settings(max_examples=20)
@given(st.integers(1, 300), st.integers(0, 2**32), st.integers(1, 3))
def test_no_window_holds_more_than_the_limit_where_processes_are_at_ease_between(
    limit: int, seed: int, lanes: int
) -> None:
    run_leaping(rest_and_hurry(limit, seed, lanes))


async def rest_and_hurry(limit: int, seed: int, lanes: int) -> None:
    """In each lane a process at a time, at ease for minutes and then in a hurry, killed in either."""
    shared, arrivals, rng = Ledgers(), list[float](), random.Random(seed)

    async def live(lane: int) -> None:
        for life in range(4):
            rate_limiter, ledger = begin(shared, limit, seed + 100 * lane + life)
            hurry = list[asyncio.Task[None]]()
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
