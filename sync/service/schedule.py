"""When each job of a connection runs: fired by APScheduler until the service stops, and sooner after a failure."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random

import structlog
from apscheduler.job import Job as ScheduledJob
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from sync.core.cron import Cron
from sync.service.jobs import Jobs
from sync.service.retries import Retries

GRACE_S = 6.0
"""How long a stop waits for the pages in flight; within 10 s the service must be gone, on a busy machine too."""
PRUNE_INTERVAL_S = 600.0
MAKE_UP_INTERVAL_S = 300.0
JITTER = 0.1
"""Share of an interval by which its runs are spread, so that many services do not call at the same second."""

log = structlog.get_logger()

Job = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between the runs of each job."""

    pull_s: float
    discovery_s: float
    heartbeat_s: float
    push_poll_s: float


class CronTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires as cron would. APScheduler's own counts the days of the week from Monday, and wants both days to fit."""

    def __init__(self, cron: Cron) -> None:
        self._cron = cron

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """APScheduler's way to ask for it."""
        return self._cron.next_from(now) if previous_fire_time is None else self._cron.next_after(previous_fire_time)


async def run_until_stopped(jobs: Jobs, intervals: Intervals, stop: asyncio.Event) -> None:
    """Push, and fire every job at its intervals, until `stop`; then let what is in flight end."""
    scheduler = AsyncIOScheduler(
        timezone=UTC,
        # The default drops a run that is a second late, as after a stalled loop or a suspended machine.
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    retries = Retries(jobs.health, Random())  # noqa: S311 - spreads retries
    _every(scheduler, intervals.discovery_s, jobs.rediscover, partial(retries.pause_s, "discovery"))
    _every(scheduler, intervals.pull_s, jobs.pull, partial(retries.pause_s, "pull"))
    _every(scheduler, intervals.heartbeat_s, jobs.beat, partial(retries.pause_s, "heartbeat"))
    _every(scheduler, intervals.push_poll_s, jobs.wake_outbox)
    _every(scheduler, intervals.push_poll_s, jobs.outbox.look_up, partial(retries.pause_s, "settle"))
    _every(scheduler, PRUNE_INTERVAL_S, jobs.prune)
    make_up = _every(scheduler, MAKE_UP_INTERVAL_S, jobs.audit.make_up, partial(retries.pause_s, "audit"))
    begin = (jobs.audit.begin, partial(retries.pause_s, "audit"), make_up)
    scheduler.add_job(_retried, CronTrigger(jobs.audit.cron), args=begin, name="audit")
    pushing = asyncio.create_task(jobs.outbox.run())
    scheduler.start()
    try:
        await stop.wait()
        scheduler.pause()
        jobs.outbox.wake.set()
        async with asyncio.timeout(GRACE_S):
            await jobs.idle()
            await asyncio.shield(pushing)
    except TimeoutError:
        log.warning("stopping_in_the_middle", after_s=GRACE_S)
    finally:
        scheduler.shutdown(wait=False)  # cancels what is left
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        await jobs.idle()


def _every(
    scheduler: AsyncIOScheduler, interval_s: float, job: Job, pause_s: Callable[[], float | None] = lambda: None
) -> ScheduledJob:
    trigger = IntervalTrigger(seconds=interval_s, jitter=interval_s * JITTER, timezone=UTC)

    async def run() -> None:
        await _retried(job, pause_s, scheduled)

    scheduled = scheduler.add_job(run, trigger, next_run_time=datetime.now(UTC), name=job.__name__)
    return scheduled


async def _retried(job: Job, pause_s: Callable[[], float | None], again: ScheduledJob) -> None:
    """Run a job, and have it done `again` after a pause that is shorter than its interval, if it failed."""
    # A job that is cancelled because the grace is over would be logged as one that failed.
    with suppress(asyncio.CancelledError):
        await job()
        if (seconds := pause_s()) is not None:
            soon = datetime.now(UTC) + timedelta(seconds=seconds)
            again.modify(next_run_time=min(soon, again.next_run_time))
