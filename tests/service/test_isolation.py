"""A hotel whose calls hang, or that reads all its past, holds up no other's pulls and changes."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sync.demo.simulator import Operation, RequestRecord
from tests.fleet.replicas import Fleet
from tests.support.mirror import Mirror

HOTELS, SLOW, MUCH = 22, "hotel-0", "hotel-1"
SLOW_S = 50.0
PAST = 100_000
WATCHED_S = 20.0
PULL_S = 2.0
LATE_S = 0.75 * WATCHED_S
"""Who is held up by a call that hangs waits for as long as is watched; on a busy machine others wait for some of it."""
OPEN = "SELECT count(*) FROM mews.voucher_code_outbox WHERE status <> 'done' AND connection <> 'hotel-0'"
MADE = "SELECT connection, extract(epoch FROM max(finished_at - created_at)) FROM mews.voucher_code_outbox GROUP BY 1"


@pytest.fixture
async def fleet(database_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Hotels that are served."""
    mirror = Mirror(database_url, latency_s=0.05)
    async with mirror.served():
        fleet = Fleet(mirror, tmp_path)
        fleet.add_hotels(HOTELS)
        yield fleet


def slow(fleet: Fleet) -> None:
    """Lets every call of one hotel take long."""

    async def wait(record: RequestRecord) -> None:
        if record.token == SLOW:
            await asyncio.sleep(SLOW_S)

    fleet.mirror.simulator.on_answer = wait


def pauses_s(fleet: Fleet, since_s: float, until_s: float) -> Mapping[str, float]:
    """The longest time between two pulls of each hotel."""
    arrived: dict[str, list[float]] = {name: [since_s] for name in fleet.vouchers}
    for one in fleet.mirror.requests(Operation.GET_CODES):
        if one.token in arrived and since_s <= one.arrived_s <= until_s:
            arrived[one.token].append(one.arrived_s)
    return {
        name: max(later - earlier for earlier, later in zip(times, [*times[1:], until_s], strict=True))
        for name, times in arrived.items()
    }


@pytest.mark.long
async def test_one_whose_calls_hang_and_one_that_reads_its_past_hold_up_nobody(fleet: Fleet) -> None:
    others = [name for name in fleet.vouchers if name not in {SLOW, MUCH}]
    settings = {"SYNC_PULL_INTERVAL_S": str(PULL_S), "SYNC_LOG_LEVEL": "error", "SYNC_SETTLE_AFTER_S": "1"}
    async with fleet.replica(**settings):
        await fleet.all_pulled()
        long_ago = fleet.mirror.clock() - timedelta(days=400)
        past = fleet.mirror.world.add_voucher(fleet.vouchers[MUCH].service_id, "Past", created_utc=long_ago)
        fleet.mirror.add_codes(past, [f"past-{n}" for n in range(PAST)], days_old=10)
        slow(fleet)
        began_s = time.monotonic()
        for name in (SLOW, *others):
            await asyncio.to_thread(fleet.queue, name, *(f"{name}-{n}" for n in range(3)))
        await asyncio.sleep(WATCHED_S)
        ended_s = time.monotonic()
        async with await psycopg.AsyncConnection.connect(fleet.mirror.database_url, autocommit=True) as connection:
            assert await (await connection.execute(OPEN)).fetchone() == (0,)
            made: Any = dict(await (await connection.execute(MADE)).fetchall())
    longest = pauses_s(fleet, began_s, ended_s)
    assert {name: pause_s for name, pause_s in longest.items() if name in others and pause_s > LATE_S} == {}
    assert {name: made[name] for name in others if made[name] > LATE_S} == {}
    assert fleet.made() >= Counter({f"{name}-{n}": 1 for name in others for n in range(3)})
    assert sum(one.token == MUCH for one in fleet.mirror.requests(Operation.GET_CODES)) > PAST / 1000 / 10
