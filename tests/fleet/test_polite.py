"""Replicas as processes never ask more of a platform than the cap together, and leave one alone that answers nobody."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sync.demo.simulator import Operation, RequestRecord, Status
from tests.fleet.replicas import Fleet
from tests.mews.test_rate_limiter import most_in_any_window
from tests.support.mirror import Mirror

HOTELS = 60
IN_FLIGHT, PER_S = 30, 40
QUIET = {"SYNC_LOG_LEVEL": "error"}
"""Nobody reads the replicas' logs here; a pipe that is full would hold them up."""
CAPPED = QUIET | {"SYNC_PLATFORM_CALLS_IN_FLIGHT": str(IN_FLIGHT), "SYNC_PLATFORM_CALLS_PER_S": str(PER_S)}
OUTAGE_S = 20.0
PROBES_PER_S = 1.0
"""Of a replica, in an outage; the first seconds take as many calls as it takes to notice it."""
BACK_S = 40.0
"""Who is not made up for waits for a minute and more by then; on a busy machine the others wait for some of it."""


@dataclass
class Seen:
    """What the simulator sees of calls: when they arrived, and the most that were under way at once."""

    in_flight: int = 0
    most: int = 0
    arrivals: list[float] = field(default_factory=list)

    async def arrived(self, _operation: Operation, _body: Any) -> None:
        self.arrivals.append(time.monotonic())
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)

    async def answered(self, _record: RequestRecord) -> None:
        self.in_flight -= 1

    def since(self, at_s: float) -> int:
        return sum(one >= at_s for one in self.arrivals)


@pytest.fixture
async def fleet(database_url: str, tmp_path: Path) -> AsyncIterator[tuple[Fleet, Seen]]:
    """Hotels that are served by an API which takes a while."""
    mirror, seen = Mirror(database_url, latency_s=0.2), Seen()
    async with mirror.served():
        fleet = Fleet(mirror, tmp_path)
        fleet.add_hotels(HOTELS)
        mirror.simulator.on_request, mirror.simulator.on_answer = seen.arrived, seen.answered
        yield fleet, seen


async def until_pulled(fleet: Fleet, since_s: float, patience_s: float = 120.0) -> float:
    """Seconds from an instant until each hotel's codes were asked for once more."""
    async with asyncio.timeout(patience_s):
        while True:
            pulled: Counter[str | None] = Counter(
                one.token
                for one in fleet.mirror.requests(Operation.GET_CODES)
                if one.arrived_s >= since_s and one.status == 200
            )
            if all(pulled[name] for name in fleet.vouchers):
                return time.monotonic() - since_s
            await asyncio.sleep(0.2)


@pytest.mark.long
async def test_replicas_that_come_and_go_never_pass_the_cap(fleet: tuple[Fleet, Seen]) -> None:
    """Three come one after the other and one is killed, with more to ask than the cap lets through."""
    hotels, seen = fleet
    async with AsyncExitStack() as replicas:
        first = await replicas.enter_async_context(hotels.replica(**CAPPED))
        await until_pulled(hotels, time.monotonic())
        for _ in range(2):
            await replicas.enter_async_context(hotels.replica(**CAPPED))
            await until_pulled(hotels, time.monotonic())
        await hotels.until_shared(HOTELS // 3, HOTELS // 3, HOTELS // 3)
        first.process.kill()
        await until_pulled(hotels, time.monotonic())
    assert most_in_any_window(seen.arrivals, 1.0) <= PER_S
    assert seen.most <= IN_FLIGHT
    assert len(seen.arrivals) > PER_S


@pytest.mark.long
async def test_a_platform_that_answers_nobody_is_asked_seldom_and_all_are_pulled_soon_after_its_return(
    fleet: tuple[Fleet, Seen],
) -> None:
    hotels, seen = fleet
    async with hotels.replica(**QUIET), hotels.replica(**QUIET):
        await hotels.until_shared(HOTELS // 2, HOTELS // 2)
        await until_pulled(hotels, time.monotonic())
        hotels.mirror.simulator.faults.by_chance({Status(503, named=False): 1.0}, seed=1)
        await asyncio.sleep(5)
        began_s = time.monotonic()
        await asyncio.sleep(OUTAGE_S)
        asked = seen.since(began_s)
        hotels.mirror.simulator.faults.stop()
        taken_s = await until_pulled(hotels, time.monotonic())
    assert asked <= 2 * PROBES_PER_S * OUTAGE_S
    assert taken_s <= BACK_S
