"""When each job of a connection runs: fired by APScheduler until the service stops, and sooner after a failure.

APScheduler plans by wall time. Intervals go by the monotonic clock: what is planned is their projection on the wall
clock, made anew every second, so that no step of that clock is waited for. Cron's times are wall time.
"""

import asyncio
import time
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

from sync.core.cron import Cron
from sync.service.jobs import Jobs
from sync.service.retries import Retries

GRACE_S = 6.0
"""How long a stop waits for the pages in flight; within 10 s the service must be gone, on a busy machine too."""
PRUNE_INTERVAL_S = 600.0
MAKE_UP_INTERVAL_S = 300.0
LOOK_S = 1.0
"""How often the plan is compared with the clocks: so long is the most that a step of the wall clock delays a job."""
STEP = timedelta(minutes=1)
"""A smaller step back is a correction: cron's time that has just come does not come once more."""
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

    def planned(self, now: datetime, before: datetime) -> datetime:
        """When it fires next, planned `before`: sooner where the wall clock was put back since."""
        return min(before, self._cron.next_after(now + STEP))


class IntervalTrigger(BaseTrigger):  # type: ignore[misc]
    """Fires about `interval_s` seconds of the monotonic clock after it last did, spread by `JITTER`.

    APScheduler's own adds to the wall time of the last run: put back by a day, it would fire after a day.
    """

    def __init__(self, interval_s: float, rng: Random, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._rng = rng
        self._clock = clock
        self._due_s = clock()

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """APScheduler's way to ask for it."""
        self._due_s = self._clock() + self._interval_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
        return self.planned(now, now)

    def hasten(self, pause_s: float) -> None:
        """Fire after `pause_s` seconds at the latest."""
        self._due_s = min(self._due_s, self._clock() + pause_s)

    def planned(self, now: datetime, before: datetime) -> datetime:
        """The instant that the wall clock will show when it is due, as it goes `now`; `before` counts for nothing."""
        return now + timedelta(seconds=max(0.0, self._due_s - self._clock()))


async def run_until_stopped(jobs: Jobs, intervals: Intervals, stop: asyncio.Event) -> None:
    """Push, and fire every job at its intervals, until `stop`; then let what is in flight end."""
    scheduler = AsyncIOScheduler(
        timezone=UTC,
        # The default drops a run that is a second late, as after a stalled loop or a suspended machine.
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    rng = Random()  # noqa: S311 - spreads runs and retries
    retries = Retries(jobs.health, rng)
    every = partial(_every, scheduler, rng)
    every(intervals.discovery_s, jobs.rediscover, partial(retries.pause_s, "discovery"))
    every(intervals.pull_s, jobs.pull, partial(retries.pause_s, "pull"))
    every(intervals.heartbeat_s, jobs.beat, partial(retries.pause_s, "heartbeat"))
    every(intervals.push_poll_s, jobs.wake_outbox)
    every(intervals.push_poll_s, jobs.polls.find_earlier)
    every(intervals.push_poll_s, jobs.polls.look_up, partial(retries.pause_s, "settle"))
    every(PRUNE_INTERVAL_S, jobs.prune)
    make_up = every(MAKE_UP_INTERVAL_S, jobs.audit.make_up, partial(retries.pause_s, "audit"))
    begin = (jobs.audit.begin, partial(retries.pause_s, "audit"), make_up)
    scheduler.add_job(_retried, CronTrigger(jobs.audit.cron), args=begin, name="audit")
    pushing = asyncio.create_task(jobs.outbox.run())
    scheduler.start()
    following = asyncio.create_task(follow_clocks(scheduler))
    try:
        await stop.wait()
        following.cancel()
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
        following.cancel()
        await asyncio.gather(pushing, following, return_exceptions=True)
        await jobs.idle()


async def follow_clocks(scheduler: AsyncIOScheduler) -> None:
    """Move what is planned along with every step of the wall clock, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        for job in scheduler.get_jobs():
            planned = job.trigger.planned(datetime.now(UTC), job.next_run_time)
            if abs((planned - job.next_run_time).total_seconds()) >= LOOK_S:
                job.modify(next_run_time=planned)


def _every(
    scheduler: AsyncIOScheduler,
    rng: Random,
    interval_s: float,
    job: Job,
    pause_s: Callable[[], float | None] = lambda: None,
) -> ScheduledJob:
    trigger = IntervalTrigger(interval_s, rng)

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
            again.trigger.hasten(seconds)
            again.modify(next_run_time=again.trigger.planned(datetime.now(UTC), again.next_run_time))
