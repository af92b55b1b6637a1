"""When each job of each connection runs: fired by APScheduler until the service stops, and sooner after a failure.

APScheduler plans by wall time. Intervals go by the monotonic clock: what is planned is their projection on the wall
clock, made anew every second, so that no step of that clock is waited for. Cron's times are wall time. One job of
APScheduler's fires what is due of all connections, since one for each would cost more than the work of an idle one.
"""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from random import Random

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from sync.core.cron import Cron
from sync.service.jobs import Jobs
from sync.service.retries import Pause, Retries
from sync.service.timetable import Entry, Job, Timetable
from sync.service.triggers import LOOK_S, CronTrigger, DueTrigger

GRACE_S = 6.0
"""How long a stop waits for the pages in flight; within 10 s the service must be gone, on a busy machine too."""
PRUNE_INTERVAL_S = 600.0
MAKE_UP_INTERVAL_S = 300.0
TICK = "intervals"
SPREAD_S = 0.002
"""Many things that are made up for at once are spread over so much more for each."""

Asks = Callable[[], bool]
"""Whether what asks the API may."""
Again = Callable[[str], Pause]
"""How soon the job of a name is tried again."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between the runs of each job."""

    pull_s: float
    discovery_s: float
    heartbeat_s: float
    push_poll_s: float


@dataclass(frozen=True, slots=True)
class Slots:
    """How much of each kind a process does at once, whatever the number of its connections; who asked first is first.

    A backfill takes hours and comes back for each turn, so that it keeps nobody from what is new. `others` ask the API
    nothing: one that is slow must not keep back heartbeats.
    """

    pulls: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(128))
    backfills: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))
    discoveries: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(16))
    audits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    look_ups: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(64))
    others: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(64))


@dataclass(frozen=True, slots=True)
class _Hastened:
    """What is done for a connection where it is found that it is time, and at no interval of its own."""

    polls: tuple[Entry, ...]
    make_up: Entry
    audit: Entry


class Schedule:
    """Fires the jobs of connections that come and go, each at its intervals, and their audits by `cron`."""

    def __init__(self, cron: Cron, rng: Random) -> None:
        self.timetable = Timetable(rng, self._plan)
        self.slots = Slots()
        self._rng = rng
        self._cron = cron
        self._asking: set[Entry] = set()
        self._owned: dict[Jobs, _Hastened] = {}
        self._has_begun = False
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            # The default drops a run that is a second late, as after a stalled loop or a suspended machine.
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        """While it fires."""
        tick = self.timetable.tick
        self._scheduler.add_job(
            tick, DueTrigger(self.timetable), id=TICK, next_run_time=datetime.now(UTC), name=tick.__name__
        )
        self._scheduler.add_job(self._audit_all, CronTrigger(self._cron), name="audit")
        self._scheduler.start()
        following = asyncio.create_task(follow_clocks(self._scheduler))
        try:
            yield
        finally:
            following.cancel()
            self._scheduler.shutdown(wait=False)

    async def run(self, jobs: Jobs, intervals: Intervals, stop: asyncio.Event, *, pulls_first: bool = False) -> None:
        """Push, and fire every job at its intervals, until `stop`; then let what is in flight end.

        `pulls_first`: its vouchers are known, and what is new in them waits for no discovery.
        """
        entries = self._enter_all(jobs, intervals, pulls_first=pulls_first)
        self._begin_common(intervals)
        asking = [entry for entry in entries if entry.asks]
        self._asking.update(asking)
        pushing = asyncio.create_task(jobs.outbox.run())
        try:
            await stop.wait()
            self.timetable.remove(entries)
            jobs.outbox.wake.set()
            if not jobs.connection.tenure.is_trusted():
                self.timetable.cancel(asking)  # whoever has the connection now reads it
            async with asyncio.timeout(GRACE_S):
                await jobs.idle()
                await asyncio.shield(pushing)
        except TimeoutError:
            log.warning("stopping_in_the_middle", connection=jobs.connection.name, after_s=GRACE_S)
        finally:
            self._owned.pop(jobs, None)
            self._asking.difference_update(asking)
            self.timetable.remove(entries)
            self.timetable.cancel(entries)
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)
            await jobs.idle()

    def _enter_all(self, jobs: Jobs, intervals: Intervals, *, pulls_first: bool) -> list[Entry]:
        """All that is done for a connection; made of parts that are there once, since thousands of them stay."""
        again, is_trusted = partial(Pause, Retries(jobs.health, self._rng)), jobs.connection.tenure.is_trusted
        pull = partial(jobs.pull, self.slots.pulls, self.slots.backfills)
        return [
            *self._enter(jobs, intervals, pull, again, is_trusted, pulls_first=pulls_first),
            *self._enter_hastened(jobs, pull, again, is_trusted),
        ]

    def _enter(
        self, jobs: Jobs, intervals: Intervals, pull: Job, again: Again, is_trusted: Asks, *, pulls_first: bool
    ) -> list[Entry]:
        """What is done for a connection at intervals, in the order in which it begins."""
        slots, every = self.slots, self.timetable.every

        async def discover() -> None:
            if await jobs.rediscover():
                self.timetable.hasten(reading, 0.0)  # and not here, where others wait to discover

        beat = partial(every, intervals.heartbeat_s, jobs.beat, again("heartbeat"), slots=slots.others)
        beats = [] if jobs.is_owned else [beat()]  # a replica tells of all that it owns at once
        begin_discovery = partial(
            every, intervals.discovery_s, discover, again("discovery"), slots=slots.discoveries, asks=is_trusted
        )
        first = [] if pulls_first else [begin_discovery()]
        reading = every(intervals.pull_s, pull, again("pull"), asks=is_trusted)
        return [*beats, *first, reading, *([] if first else [begin_discovery()])]

    def _enter_hastened(self, jobs: Jobs, pull: Job, again: Again, is_trusted: Asks) -> list[Entry]:
        """What is done once for a connection, and from then on where a look for all finds it concerned."""
        slots = self.slots
        once = partial(self.timetable.every, math.inf)
        when_asked = partial(once, asks=is_trusted, first_s=math.inf)
        make_up = once(jobs.audit.make_up, again("audit"), slots=slots.audits, asks=is_trusted)

        async def audit() -> None:
            await jobs.audit.begin()
            self.timetable.retry(make_up)

        async def discover() -> object:
            async with slots.discoveries:
                return await jobs.discover()

        # What the outbox waits for is read as all else is: in its turn, and only by whoever may ask.
        refresh = when_asked(partial(jobs.outbox.refresh, discover, pull))
        jobs.outbox.ask_refresh = partial(self.timetable.hasten, refresh, 0.0)
        hastened = self._owned[jobs] = _Hastened(
            polls=(
                once(jobs.wake_outbox),
                once(jobs.polls.find_earlier, slots=slots.others),
                once(jobs.polls.look_up, again("settle"), slots=slots.look_ups, asks=is_trusted),
            ),
            make_up=make_up,
            audit=when_asked(audit, slots=slots.audits),
        )
        return [*hastened.polls, hastened.make_up, hastened.audit, refresh]

    def _begin_common(self, intervals: Intervals) -> None:
        """What is done once for all connections, from when there is one."""
        if not self._has_begun:
            self._has_begun = True
            self.timetable.every(intervals.push_poll_s, self._poll_all, first_s=intervals.push_poll_s)
            self.timetable.every(MAKE_UP_INTERVAL_S, self._make_up_all, first_s=MAKE_UP_INTERVAL_S)
            self.timetable.every(PRUNE_INTERVAL_S, self._prune)

    async def wake_outboxes(self) -> None:
        """Wake the outboxes in which one look finds anything: at once, or one after the other, where they are many."""
        some = next(iter(self._owned), None)
        looked = await some.polls.look(anew=True) if some else None
        concerned = [jobs for jobs in self._owned if jobs.is_to_be_polled(looked)]
        for jobs in concerned:
            asyncio.get_running_loop().call_later(self._spread(len(concerned)), jobs.outbox.wake.set)

    async def _poll_all(self) -> None:
        """Poll the outboxes in which one look finds anything unfinished; one after the other, where they are many."""
        some = next(iter(self._owned), None)
        looked = await some.polls.look() if some else None
        concerned = [hastened for jobs, hastened in self._owned.items() if jobs.is_to_be_polled(looked)]
        for hastened in concerned:
            after_s = self._spread(len(concerned))
            for entry in hastened.polls:
                self.timetable.hasten(entry, after_s)

    async def _make_up_all(self) -> None:
        """Have audits made up for, or gone on with, of which one look finds that it is time."""
        some = next(iter(self._owned), None)
        standings = await some.audit.look() if some else None
        for jobs, hastened in self._owned.items():
            if standings is None or jobs.audit.is_to_make_up(standings):
                self.timetable.hasten(hastened.make_up, self._spread(len(self._owned)))

    async def _prune(self) -> None:
        """Forget what is old, whichever connections it is of."""
        if (some := next(iter(self._owned), None)) is not None:
            await some.prune()

    def _spread(self, number: int) -> float:
        return self._rng.uniform(0, SPREAD_S * (number - 1))

    async def _audit_all(self) -> None:
        """Begin all audits, since it is time."""
        for hastened in self._owned.values():
            self.timetable.hasten(hastened.audit, 0.0)

    def cancel_asking(self) -> None:
        """End all that asks the API, of every connection: it is not known whether they are this process's still."""
        self.timetable.cancel(self._asking)

    def make_up(self) -> None:
        """Have all that was left out meanwhile done soon."""
        self.timetable.make_up(self._asking, SPREAD_S)

    def _plan(self) -> None:
        """Have what is due next fire then."""
        if (job := self._scheduler.get_job(TICK)) is not None:
            job.modify(next_run_time=job.trigger.planned(datetime.now(UTC), job.next_run_time))


async def run_until_stopped(jobs: Jobs, intervals: Intervals, stop: asyncio.Event) -> None:
    """The jobs of one connection that nobody else works for, until `stop`."""
    schedule = Schedule(jobs.audit.cron, Random())  # noqa: S311 - spreads runs and retries
    with schedule.running():
        await schedule.run(jobs, intervals, stop)


async def follow_clocks(scheduler: AsyncIOScheduler) -> None:
    """Move what is planned along with every step of the wall clock, until cancelled."""
    while True:
        await asyncio.sleep(LOOK_S)
        for job in scheduler.get_jobs():
            planned = job.trigger.planned(datetime.now(UTC), job.next_run_time)
            if abs((planned - job.next_run_time).total_seconds()) >= LOOK_S:
                job.modify(next_run_time=planned)
