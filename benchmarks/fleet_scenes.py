"""A replica is killed, stopped, paused or cut off from the database: how late the hotels are that it worked for."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
from fleet_world import PATIENCE_S, Bench, Replica

from tests.fleet.calls import now_s
from tests.support.proxy import Proxy
from tests.support.wall_clock import HOUR, ProcessClock

QUEUE = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', unnest(%s::uuid[]), unnest(%s::text[])
"""
OPEN = "SELECT status, last_error, count(*) FROM mews.voucher_code_outbox WHERE status <> 'done' GROUP BY 1, 2"
VALUES = "SELECT value FROM mews.voucher_code_outbox"
QUEUE_EVERY_S = 0.25
ZOMBIE_S = 5.0
"""For so long after it has woken up, what a replica sends is looked at."""


@dataclass
class Lateness:
    """Seconds until each hotel was pulled again, of all repeats, and values that a replica sent although taken."""

    seconds: list[float] = field(default_factory=list)
    zombie_writes: list[str] = field(default_factory=list)


Scene = Callable[[Bench, Replica], Awaitable[None]]


class Producer:
    """Queues adds for hotels all along, from outside of any replica."""

    def __init__(self, bench: Bench) -> None:
        self.queued: list[str] = []
        self._bench = bench
        self._task = asyncio.create_task(self._produce())

    async def _produce(self) -> None:
        vouchers = self._bench.fleet.vouchers
        url = self._bench.fleet.mirror.database_url
        while True:
            with suppress(psycopg.OperationalError):
                async with await psycopg.AsyncConnection.connect(url, autocommit=True) as session:
                    while True:
                        values = [
                            f"{name}-{len(self.queued)}"
                            for name in random.sample(list(vouchers), min(5, len(vouchers)))
                        ]
                        ids = [vouchers[value.rpartition("-")[0]].id for value in values]
                        await session.execute(QUEUE, [ids, values])
                        self.queued += values
                        await asyncio.sleep(QUEUE_EVERY_S)
            await asyncio.sleep(QUEUE_EVERY_S)

    async def end(self) -> tuple[int, int, int]:
        """Waits until all is done; how many were queued, how many of them are twice in the API, and how many never."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        url = self._bench.fleet.mirror.database_url
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as session:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    while await (await session.execute(OPEN)).fetchall():
                        await asyncio.sleep(0.2)
            except TimeoutError:
                rows = await (await session.execute(OPEN)).fetchall()
                raise AssertionError(f"not done after {PATIENCE_S:g} s, by status and why: {rows}") from None
            told = {value for (value,) in await (await session.execute(VALUES)).fetchall()}
        made: Counter[str] = self._bench.fleet.made()
        return len(told), sum(number > 1 for number in made.values()), len(told - made.keys())


async def killed(bench: Bench, victim: Replica) -> None:
    """kill -9, and another one begins once its hotels are pulled."""
    await bench.end(victim, signal.SIGKILL)


async def stopped(bench: Bench, victim: Replica) -> None:
    """SIGTERM."""
    victim.signal(signal.SIGTERM)


async def paused(bench: Bench, victim: Replica) -> None:
    """SIGSTOP: it keeps its sessions and its lock."""
    victim.signal(signal.SIGSTOP)


async def reset(bench: Bench, victim: Replica) -> None:
    """Every line to the database is cut, and none can be made."""
    _way(victim).break_down()


async def held(bench: Bench, victim: Replica) -> None:
    """Nothing passes any more between it and the database, and no line is closed."""
    _way(victim).hold()


def _way(victim: Replica) -> Proxy:
    assert victim.proxy is not None  # noqa: S101 - every one has its own way to the database, where that is cut
    return victim.proxy


async def lateness(bench: Bench, scene: Scene, repeats: int) -> Lateness:
    """Plays a scene again and again, each time with another victim at another moment."""
    found = Lateness()
    for _ in range(repeats):
        owned = await bench.shared()
        await asyncio.sleep(random.uniform(0, 2))
        victim = random.choice(bench.replicas)
        hotels = owned[victim.process.pid]
        began_s = now_s()
        await scene(bench, victim)
        pulled = await bench.calls.until_pulled(hotels, began_s, but=victim.name, patience_s=PATIENCE_S)
        found.seconds += pulled.values()
        found.zombie_writes += await _back(bench, victim)
        if victim not in bench.replicas:
            await bench.begin(is_cut_off=victim.proxy is not None)
    return found


async def _back(bench: Bench, victim: Replica) -> Collection[str]:
    """Has a victim back that lives still; what it then sends of what another has taken."""
    if victim not in bench.replicas:
        return ()
    woken_s = now_s()
    victim.signal(signal.SIGCONT)
    if isinstance(victim.proxy, Proxy):
        victim.proxy.let_be()
    with suppress(TimeoutError):
        await asyncio.wait_for(victim.process.wait(), ZOMBIE_S)
        bench.replicas.remove(victim)
    return bench.calls.taken_twice(victim.name, woken_s)


async def over_budget(bench: Bench, clock: ProcessClock, kills: int) -> tuple[int, int]:
    """Kills a replica every few seconds, the database's clock stepped by an hour each time, there and back.

    How many calls were made, and how many of them were over the budget as the simulator counts it.
    """
    for number in range(kills):
        await asyncio.sleep(random.uniform(1, 4))
        await bench.end(random.choice(bench.replicas), signal.SIGKILL)
        clock.step((HOUR, -HOUR, -HOUR, HOUR)[number % 4])
        await bench.begin(SYNC_RATE_LIMIT_REQUESTS="200", is_cut_off=False)
    simulator = bench.fleet.mirror.simulator
    over = sum("over the budget" in one for one in simulator.violations)
    return len(bench.calls.seen), over


async def rolling_restart(bench: Bench) -> float:
    """Each replica is stopped and begun anew, one after the other; by how much more than an interval a hotel waited."""
    await bench.shared()
    began_s = now_s()
    for replica in list(bench.replicas):
        await bench.end(replica, signal.SIGTERM)
        await bench.begin()
        await bench.shared()
    gaps = bench.calls.longest_gaps(bench.hotels, began_s, now_s())
    return max(gaps.values()) - bench.interval_s


async def database_away(bench: Bench, away_s: float) -> tuple[Lateness, int]:
    """The database is stopped for a while; how late hotels are once it is back, and how many replicas have ended."""
    assert bench.server is not None  # noqa: S101 - this scene has one
    await bench.shared()
    await asyncio.to_thread(bench.server.stop)
    await asyncio.sleep(away_s)
    await asyncio.to_thread(bench.server.start)
    began_s = now_s()
    pulled = await bench.calls.until_pulled(bench.hotels, began_s, patience_s=PATIENCE_S)
    ended = sum(one.process.returncode is not None for one in bench.replicas)
    return Lateness(list(pulled.values())), ended
