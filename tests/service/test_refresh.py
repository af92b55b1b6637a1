"""What queued changes wait for is read in its turn, and only by a process that may ask."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from uuid import uuid4

import pytest

from sync.connection.tenure import Tenure, Trust
from sync.core.cron import Cron
from sync.demo.simulator import Operation
from sync.service import app
from sync.service.at_work import Intervals
from sync.service.jobs import Jobs
from sync.service.schedule import Schedule
from tests.outages.helpers import queue_delete_by_id
from tests.support.at_work import at_work
from tests.support.mirror import Mirror

pytestmark = pytest.mark.long

NEVER_S = 3600.0
POLL_S = 0.05
PATIENCE_S = 15
ENDED = "SELECT 1 FROM mews.voucher_code_outbox WHERE status = 'failed'"
"""A delete of a code that is unknown still, after all was read that there is."""


@asynccontextmanager
async def scheduled(mirror: Mirror, schedule: Schedule, trust: Trust) -> AsyncIterator[Jobs]:
    """The jobs of a mirror, fired by a schedule."""
    connection = replace(mirror.connection, tenure=Tenure(trust=trust))
    jobs = app.make_jobs(connection, mirror.settings(sync_settle_after_s=1))
    with schedule.running():
        async with at_work(schedule, jobs):
            yield jobs
    mirror.stop.clear()


def make_schedule(reads_every_s: float = NEVER_S) -> Schedule:
    """One in which jobs that read by themselves come once at most, or every few seconds."""
    intervals = Intervals(pull_s=reads_every_s, discovery_s=reads_every_s, push_poll_s=POLL_S)
    return Schedule(Cron("0 3 1 1 *"), Random(1), intervals)


async def until_ended(mirror: Mirror) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await mirror.rows(ENDED):
            await mirror.rows("SELECT pg_sleep(0.05)")


async def asked_often(jobs: Jobs) -> None:
    """Waits until the outbox has asked for it some times."""
    asked, ask = asyncio.Semaphore(0), jobs.outbox.ask_refresh

    def count() -> None:
        ask()
        asked.release()

    jobs.outbox.ask_refresh = count
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(5):
            await asked.acquire()


@pytest.mark.parametrize("reads_every_s", [NEVER_S, POLL_S], ids=["by being asked", "at its intervals"])
async def test_who_may_not_ask_reads_nothing_until_it_may(mirror: Mirror, reads_every_s: float) -> None:
    trust, schedule = Trust(), make_schedule(reads_every_s)
    await mirror.once()
    await queue_delete_by_id(mirror, uuid4())
    before = len(mirror.simulator.requests)
    async with scheduled(mirror, schedule, trust) as jobs:
        await asyncio.sleep(0)
        await asked_often(jobs)
        assert len(mirror.simulator.requests) == before
        trust.until_s = math.inf
        schedule.make_up()
        await until_ended(mirror)


async def test_it_waits_for_a_slot_as_every_other_pull_does(mirror: Mirror) -> None:
    schedule = make_schedule()
    pulls = schedule.slots.pulls
    mirror.add_voucher()
    await mirror.once()
    await queue_delete_by_id(mirror, uuid4())
    while not pulls.locked():
        await pulls.acquire()
    before = len(mirror.requests(Operation.GET_CODES))
    async with scheduled(mirror, schedule, Trust(math.inf)) as jobs:
        await asyncio.sleep(0)
        await asked_often(jobs)
        assert len(mirror.requests(Operation.GET_CODES)) == before
        pulls.release()
        await until_ended(mirror)
