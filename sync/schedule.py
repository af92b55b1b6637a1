"""When each job of a connection runs: fired by APScheduler until the service stops."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from sync.jobs import Jobs
from sync.model.cron import Cron

GRACE_S = 8.0
"""How long a stop waits for the pages in flight; within 10 s the service must be gone."""
PRUNE_INTERVAL_S = 600.0
RESUME_INTERVAL_S = 300.0
JITTER = 0.1
"""Share of an interval by which its runs are spread, so that many services do not call at the same second."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between the runs of each job, and when the audit begins, in cron's five fields, in UTC."""

    pull_s: float
    discovery_s: float
    heartbeat_s: float
    push_poll_s: float
    audit_cron: str


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
    _every(scheduler, intervals.discovery_s, jobs.discover)
    _every(scheduler, intervals.pull_s, jobs.pull)
    _every(scheduler, intervals.heartbeat_s, jobs.beat)
    _every(scheduler, intervals.push_poll_s, jobs.wake_outbox)
    _every(scheduler, intervals.push_poll_s, jobs.outbox.look_up)
    _every(scheduler, PRUNE_INTERVAL_S, jobs.prune)
    _every(scheduler, RESUME_INTERVAL_S, jobs.resume_audit)
    scheduler.add_job(_quietly(jobs.audit), CronTrigger(Cron(intervals.audit_cron)), name="audit")
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


def _every(scheduler: AsyncIOScheduler, interval_s: float, job: Callable[[], Awaitable[object]]) -> None:
    trigger = IntervalTrigger(seconds=interval_s, jitter=interval_s * JITTER, timezone=UTC)
    scheduler.add_job(_quietly(job), trigger, next_run_time=datetime.now(UTC), name=job.__name__)


def _quietly(job: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        # A job that is cancelled because the grace is over would be logged as one that failed.
        with suppress(asyncio.CancelledError):
            await job()

    return run
