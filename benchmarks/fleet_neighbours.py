"""Neighbours that make noise: 1,000,000 changes of one hotel are queued, another reads its past, one's calls are slow.

What the others notice of it, whom the same replica works for: how long their changes wait, and how long they are not
pulled.
"""

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from uuid import UUID

import psycopg
from fleet_figures import Figure, times
from fleet_world import PATIENCE_S, Bench
from worlds import YEARS, codes_of

from sync.demo.simulator import Operation, RequestRecord
from tests.fleet.calls import now_s

QUEUED, READING, SLOW = NOISY = ("queued", "reading", "slow")
MANY = 1_000_000
"""Changes of the one, and codes of the other."""
SLOW_S = 4.0
WATCHED_S, ADDS_PER_S = 90.0, 20.0
QUEUE_ONE = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', %s, %s)"
QUEUE_MANY = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
SELECT 'add', %s, 'noise-' || n FROM generate_series(1, %s) AS n
"""
INTERVAL_S = 10.0
"""Of pulls: longer than elsewhere, so that they alone do not fill a replica."""
BESIDE = f"beside noisy neighbours, one replica, an interval of {INTERVAL_S:g} s:"
STILL_S = 10.0
"""For noise to count, some of it comes from each hotel in the last so many seconds."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """Seconds from each commit of a quiet hotel's change to its request, and from each of its pulls to the next."""

    sent_s: list[float]
    pulled_s: list[float]


@dataclass
class Trickle:
    """Queues one change of a quiet hotel at a time, and notes when it was committed."""

    bench: Bench
    hotels: Sequence[str]
    committed: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        """Until it is cancelled."""
        rng = random.Random(1)
        async with await psycopg.AsyncConnection.connect(self.bench.fleet.mirror.database_url, autocommit=True) as one:
            while True:
                name = rng.choice(self.hotels)
                value = f"{name}-{len(self.committed)}"
                await one.execute(QUEUE_ONE, [self.bench.fleet.vouchers[name].id, value])
                self.committed[value] = now_s()
                await asyncio.sleep(rng.expovariate(ADDS_PER_S))

    async def sent(self, after_s: float) -> list[float]:
        """How long each has waited for its request that was committed after an instant; waits for the last of them."""
        committed = {value: at_s for value, at_s in self.committed.items() if at_s > after_s}
        async with asyncio.timeout(PATIENCE_S):
            while committed.keys() - (arrived := self._arrived()).keys():
                await asyncio.sleep(0.1)
        return [arrived[value] - at_s for value, at_s in committed.items()]

    def _arrived(self) -> dict[str, float]:
        return {value: call.at_s for call in reversed(self.bench.calls.seen) for value in call.values}


class Neighbours:
    """Quiet hotels that are there from the first, and noisy ones that come later."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._quiet = bench.hotels
        self._trickle = Trickle(bench, self._quiet)
        self._voucher_ids = dict[str, UUID]()

    async def annoy(self) -> list[Figure]:
        """What the quiet ones notice while nobody else is there, and then beside the noise."""
        gc.disable()  # of a million codes that the simulator keeps, a collection stops its answers for 0.7 s
        try:
            self._open()
            before = await self._noticed()
            await self._make_noise()
            began_s = now_s()
            after = await self._noticed()
        finally:
            gc.enable()
        is_noisy = self._heard(now_s() - STILL_S).keys() == set(NOISY)
        heard = ", ".join(f"{name} {calls:,}" for name, calls in sorted(self._heard(began_s).items()))
        return [
            times(f"{BESIDE} from commit to request, p99", 1.2, before.sent_s, after.sent_s),
            times(f"{BESIDE} from pull to pull, p99", 1.1, before.pulled_s, after.pulled_s),
            Figure(f"the noise: calls in {WATCHED_S:g} s", "until the end", heard, is_noisy),
        ]

    def _open(self) -> None:
        """The noisy hotels are there, and nothing is connected to them."""
        world = self._bench.fleet.mirror.world
        for name in NOISY:
            self._voucher_ids[name] = self._bench.fleet.open_hotel(name, world.now() - YEARS).id
        world.codes.put(codes_of(world, random.Random(1), [self._voucher_ids[READING]], MANY, YEARS))
        note = self._bench.fleet.mirror.simulator.on_answer
        assert note is not None  # noqa: S101 - the bench counts calls

        async def answer(record: RequestRecord) -> None:
            await note(record)
            if record.token == SLOW:
                await asyncio.sleep(SLOW_S)

        self._bench.fleet.mirror.simulator.on_answer = answer

    async def _make_noise(self) -> None:
        """The noisy hotels are connected, and one of them has its changes queued; returns once all are heard."""
        began_s = now_s()
        self._bench.fleet.connect(NOISY)
        async with asyncio.timeout(PATIENCE_S):
            while self._heard(began_s)[READING] == 0:  # they are known from then on
                await asyncio.sleep(0.1)
        async with await psycopg.AsyncConnection.connect(self._bench.fleet.mirror.database_url, autocommit=True) as one:
            await one.execute(QUEUE_MANY, [self._voucher_ids[QUEUED], MANY])
        async with asyncio.timeout(PATIENCE_S):
            while self._heard(began_s).keys() != set(NOISY):
                await asyncio.sleep(0.1)

    def _heard(self, after_s: float) -> Counter[str]:
        """The calls of each noisy hotel since an instant: adds of the one, and pages of codes of the others."""
        of_kind = {QUEUED: Operation.ADD_CODES, READING: Operation.GET_CODES, SLOW: Operation.GET_CODES}
        calls = (one for one in self._bench.calls.seen if one.at_s > after_s)
        return Counter(one.hotel for one in calls if of_kind.get(one.hotel) is one.operation)

    async def _noticed(self) -> Noticed:
        """What the quiet hotels notice while they are watched, once what came before has held nobody up any more."""
        await self._bench.calls.until_pulled(self._quiet, now_s(), patience_s=PATIENCE_S)
        task = asyncio.create_task(self._trickle.run())
        began_s = now_s()
        await asyncio.sleep(WATCHED_S)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        ended_s = now_s()
        return Noticed(await self._trickle.sent(began_s), self._gaps(began_s, ended_s))

    def _gaps(self, from_s: float, to_s: float) -> list[float]:
        pulls: dict[str, list[float]] = {name: [] for name in self._quiet}
        for call in self._bench.calls.seen:
            if call.operation is Operation.GET_CODES and call.hotel in pulls and call.at_s < to_s:
                pulls[call.hotel].append(call.at_s)
        return [later - sooner for times in pulls.values() for sooner, later in pairwise(times) if sooner > from_s]
