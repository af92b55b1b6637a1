"""When each job of each connection runs: fired by APScheduler until the service stops, and sooner after a failure.

APScheduler plans by wall time. Intervals go by the monotonic clock: what is planned is their projection on the wall
clock, made anew every second, so that no step of that clock is waited for. Cron's times are wall time. One job of
APScheduler's fires what is due of all connections, since one for each would cost more than the work of an idle one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from random import Random

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from sync.core.cron import Cron
from sync.core.errors import DatabaseError
from sync.logger import structlog
from sync.outbox.expired_claims import AbandonedClaims
from sync.service.at_work import AtWork, BehindPull, Intervals, Kinds, Slots
from sync.service.jobs import Jobs
from sync.service.retries import Retries
from sync.service.timetable import Entry, Timetable
from sync.service.triggers import LOOK_S, CronTrigger, DueTrigger

GRACE_S = 6.0
"""How long a stop waits for the pages in flight; within 10 s the service must be gone, on a busy machine too."""
TELL_LAST_S = 1.0
"""Behind that; a database that does not answer holds up no stop."""
PRUNE_INTERVAL_S = 600.0
MAKE_UP_INTERVAL_S = 300.0
TICK = "intervals"
TICKS = 100
"""None waits for anything, so no two run at once; but what is due next may be so before APScheduler has noted the end
of the one before, and would be left out until the plan is looked at again."""
SPREAD_S = 0.002
"""Many things that are made up for at once are spread over so much more for each."""

BEHIND_PULL_S = 2.0
"""What need not be done at once keeps the pulls waiting of all that are begun together."""
DISCOVERY_SPREAD_S = 0.25
"""Discoveries of these are spread over so much for each that is at work."""

log = structlog.get_logger()


class Schedule:
    """Fires the jobs of connections that come and go, each at its interval, and their audits by `cron`."""

    def __init__(self, cron: Cron, rng: Random, intervals: Intervals) -> None:
        self.timetable = Timetable(rng, self._plan)
        self.slots = Slots()
        self._intervals = intervals
        self._kinds = Kinds(self.timetable, self.slots, intervals)
        self._rng = rng
        self._cron = cron
        self._at_work: dict[Jobs, AtWork] = {}
        self._has_begun = False
        self._abandoned = AbandonedClaims()
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            # The default drops a run that is a second late, as after a stalled loop or a suspended machine.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """While it fires."""
        tick, now = self.timetable.tick, datetime.now(UTC)
        self._scheduler.add_job(
            tick, DueTrigger(self.timetable), id=TICK, next_run_time=now, name=tick.__name__, max_instances=TICKS
        )
        self._scheduler.add_job(self._audit_all, CronTrigger(self._cron), name="audit")
        self._scheduler.start()
        following = asyncio.create_task(follow_clocks(self._scheduler))
        try:
            yield
        finally:
            following.cancel()
            self._scheduler.shutdown(wait=False)

    def begin(self, jobs: Jobs, *, pulls_first: bool = False) -> None:
        """Push, and fire every job at its intervals, until it is to `end`.

        `pulls_first`: its vouchers are known, and what is new in them waits for no discovery. Nothing is sent before it
        is read: then whoever calls this begins its outbox.
        """
        jobs.progress.expect()
        retries = Retries(jobs.health, self._rng)
        behind_pull = self._behind_pull() if pulls_first else None
        self._at_work[jobs] = AtWork(jobs, retries, self.timetable, self._kinds, behind_pull)
        self._begin_common()
        if not pulls_first:
            jobs.outbox.begin()

    def _behind_pull(self) -> BehindPull:
        """Of many that are taken over together, discoveries would keep the next pulls waiting for seconds."""
        spread_s = min(DISCOVERY_SPREAD_S * len(self._at_work), self._intervals.discovery_s)
        return BehindPull(BEHIND_PULL_S, BEHIND_PULL_S + self._rng.uniform(0, spread_s))

    async def end(self, jobs: Jobs) -> None:
        """Begin nothing more for a connection, and let what is in flight end."""
        work, tenure = self._at_work[jobs], jobs.connection.tenure
        try:
            self.timetable.remove(work.entries)
            if not tenure.is_trusted():
                self.timetable.cancel(work.asking)  # whoever has the connection now reads it
            async with asyncio.timeout(GRACE_S):
                await jobs.idle()
                await jobs.outbox.idle()
        except TimeoutError:
            log.warning("stopping_in_the_middle", connection=jobs.connection.name, after_s=GRACE_S)
        finally:
            del self._at_work[jobs]
            self.timetable.cancel(work.entries)
            jobs.outbox.cancel()
            await jobs.outbox.idle()
            await jobs.idle()
            if not tenure.is_over:  # else it may have been removed, with all that was noted of it
                with suppress(TimeoutError):
                    async with asyncio.timeout(TELL_LAST_S):
                        await jobs.tell_last()

    def _begin_common(self) -> None:
        """What is done once for all connections, from when there is one."""
        if not self._has_begun:
            self._has_begun = True
            poll_s = self._intervals.push_poll_s
            self.timetable.every(poll_s, self._poll_all, first_s=poll_s)
            self.timetable.every(MAKE_UP_INTERVAL_S, self._make_up_all, first_s=MAKE_UP_INTERVAL_S)
            self.timetable.every(PRUNE_INTERVAL_S, self._prune)

    async def wake_outboxes(self) -> None:
        """Wake the outboxes in which one look finds something to send: at once, or one after the other, where many are.

        Not those that only wait for answers: in a busy fleet each change would have all of these look for nothing.
        """
        some = next(iter(self._at_work), None)
        looked = await some.polls.look(anew=True) if some else None
        concerned = [jobs for jobs in self._at_work if jobs.is_to_be_polled(looked) and jobs.has_to_send(looked)]
        for jobs in concerned:
            asyncio.get_running_loop().call_later(self._spread(len(concerned)), jobs.outbox.wake.set)

    async def _poll_all(self) -> None:
        """Poll the outboxes in which one look finds anything unfinished; one after the other, where they are many."""
        some = next(iter(self._at_work), None)
        looked = await some.polls.look() if some else None
        concerned = [work for jobs, work in self._at_work.items() if jobs.is_to_be_polled(looked)]
        for work in concerned:
            after_s = self._spread(len(concerned))
            for entry in work.polls:
                self.timetable.hasten(entry, after_s)
        if some and looked and some.connection.incarnation.is_worked_with:
            push = some.settings.outbox.push
            names, wait = looked.found.abandoned, push.read_after_write_delay
            with suppress(DatabaseError):  # the polls tell its troubles
                await self._abandoned.expire(some.connection.engine, names, push.lease, wait)

    async def _make_up_all(self) -> None:
        """Have audits made up for, or gone on with, of which one look finds that it is time."""
        some = next(iter(self._at_work), None)
        standings = await some.audit.look() if some else None
        for jobs, work in self._at_work.items():
            if standings is None or jobs.audit.is_to_make_up(standings):
                self.timetable.hasten(work.make_up, self._spread(len(self._at_work)))

    async def _prune(self) -> None:
        """Forget what is old, whichever connections it is of."""
        if (some := next(iter(self._at_work), None)) is not None:
            await some.prune()

    def _spread(self, number: int) -> float:
        return self._rng.uniform(0, SPREAD_S * (number - 1))

    async def _audit_all(self) -> None:
        """Begin all audits, since it is time."""
        for work in self._at_work.values():
            self.timetable.hasten(work.audit, 0.0)

    def cancel_asking(self) -> None:
        """End all that asks the API, of every connection: it is not known whether they are this process's still."""
        self.timetable.cancel(self._all_asking())

    def make_up(self) -> None:
        """Have all that was left out meanwhile done soon."""
        self.timetable.make_up(self._all_asking(), SPREAD_S)

    def _all_asking(self) -> Iterator[Entry]:
        return (entry for work in self._at_work.values() for entry in work.asking)

    def _plan(self) -> None:
        """Have what is due next fire then."""
        if (job := self._scheduler.get_job(TICK)) is not None:
            job.modify(next_run_time=job.trigger.planned(datetime.now(UTC), job.next_run_time))


async def follow_clocks(scheduler: AsyncIOScheduler) -> None:
    """Move what is planned along with every step of the wall clock, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        for job in scheduler.get_jobs():
            planned = job.trigger.planned(datetime.now(UTC), job.next_run_time)
            if abs((planned - job.next_run_time).total_seconds()) >= LOOK_S:
                job.modify(next_run_time=planned)
