"""The ledger of a token's budget in memory, and processes that call the API by it."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

from sync.connection.budget import STANDING_OF_REPLICA_S, STANDING_S
from sync.connection.reservations import Reservation, ReservationWatch
from sync.connection.tenure import Trust
from sync.core.errors import DatabaseUnavailable
from sync.mews.ledger import Entry, Others
from sync.mews.rate_limiter import RateLimiter

WINDOW_S, GOOD_FOR_S, LONGEST_CALL_S = 30.0, 20.0, 40.0
COUNTS_FOR_S = GOOD_FOR_S + LONGEST_CALL_S + WINDOW_S


class Ledgers:
    """What the processes of one token have written down, in memory. `is_away`: nobody can write."""

    def __init__(self) -> None:
        self.entries: dict[UUID, Reservation] = {}
        self.lives: dict[UUID, int] = {}
        self.lock = asyncio.Lock()
        self.is_away = False
        self.written = 0


class LedgerInMemory:
    """A process's own view of them, by a clock of its own; each writing takes a while, before and after it stands.

    `slept_s`: for so long its machine slept, of which the clock knows nothing.
    """

    good_for_s = GOOD_FOR_S

    def __init__(
        self, shared: Ledgers, clock: Callable[[], float], rng: random.Random, trust: Trust | None = None
    ) -> None:
        self._trust = trust
        self.standing_s = STANDING_S if trust is None else STANDING_OF_REPLICA_S
        self._shared = shared
        self._clock = clock
        self._rng = rng
        self._process = uuid4()
        self._watch = ReservationWatch(WINDOW_S, GOOD_FOR_S)
        self.is_killed = self.is_cut_off = False
        self.slept_s = 0.0

    def now_s(self) -> float:
        return self._clock() + self.slept_s

    @property
    def term(self) -> int | None:
        return self._trust.term if self._trust else 0

    async def beat(self) -> None:
        """Show that it lives every few seconds, but for as long as it is cut off or killed."""
        assert self._trust is not None
        while not self.is_killed:
            began_s = self._clock()
            await asyncio.sleep(self._rng.uniform(0, 1))
            if not self.is_cut_off:
                self._shared.lives[self._process] = self._shared.lives.get(self._process, 0) + 1
                await asyncio.sleep(self._rng.uniform(0, 1))
                self._trust.extend(began_s)
            await asyncio.sleep(2)

    async def write(self, decide: Callable[[Others], Entry]) -> None:
        async with self._shared.lock:
            await asyncio.sleep(self._rng.uniform(0, 0.1))
            if self._shared.is_away or self.is_killed or self.is_cut_off:
                raise DatabaseUnavailable("away")
            beside = [
                replace(one, life=self._shared.lives.get(process))
                for process, one in self._shared.entries.items()
                if process != self._process
            ]
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
                self._process, beat, entry.reserved, entry.ages_s, entry.is_waiting, counts_for_s,
                silent_for_s=self._trust.lasts_s + LONGEST_CALL_S + WINDOW_S if self._trust else None,
            )  # fmt: skip
        await asyncio.sleep(self._rng.uniform(0, 0.1))


def process(shared: Ledgers, limit: int, seed: int = 1) -> RateLimiter:
    """What a process starts with."""
    return begin(shared, limit, seed)[0]


def begin(
    shared: Ledgers, limit: int, seed: int, *, trusted_s: float | None = None
) -> tuple[RateLimiter, LedgerInMemory]:
    """What a process starts with; its clock began at any time. `trusted_s`: as long as others trust one that beats."""
    rng = random.Random(seed)
    loop, offset = asyncio.get_running_loop(), rng.uniform(0, 1e6)

    def clock() -> float:
        return loop.time() + offset - ledger.slept_s

    trust = None if trusted_s is None else Trust(lasts_s=trusted_s, clock=clock)
    ledger = LedgerInMemory(shared, clock, rng, trust)
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
