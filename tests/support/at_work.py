"""Connections at work, fired by a schedule in the test's own process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sync.service.jobs import Jobs
from sync.service.schedule import Schedule


@asynccontextmanager
async def at_work(schedule: Schedule, *all_jobs: Jobs) -> AsyncIterator[None]:
    """Has all done for these connections, and stopped in the end, when what is in flight ends."""
    for jobs in all_jobs:
        schedule.begin(jobs)
    try:
        yield
    finally:
        for jobs in all_jobs:
            jobs.connection.stop.set()
        await asyncio.gather(*(schedule.end(jobs) for jobs in all_jobs))
