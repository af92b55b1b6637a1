"""What is done for a connection that is at work, and when: kinds that are there once, and entries of thousands."""

import asyncio
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sync.service.jobs import Jobs
from sync.service.retries import Retries
from sync.service.timetable import Entry, Kind, Timetable


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between the runs of each job."""

    pull_s: float
    discovery_s: float
    push_poll_s: float


@dataclass(frozen=True, slots=True)
class Slots:
    """How much of each kind a process does at once, whatever the number of its connections; who asked first is first.

    A backfill takes hours and comes back for each turn, so that it keeps nobody from what is new. `others` ask the API
    nothing.
    """

    pulls: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(128))
    backfills: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(8))
    discoveries: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(16))
    audits: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    look_ups: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(64))
    others: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(64))


@dataclass(frozen=True, slots=True)
class BehindPull:
    """After how many seconds what need not come before the first pull begins."""

    polls_s: float
    discovery_s: float


AT_ONCE = BehindPull(0.0, 0.0)


class AtWork:
    """A connection at work: its jobs, how often each of them has failed, and what the timetable has for it.

    `regular` is done at intervals, in the order in which it begins; the rest where it is found that it is time, and
    `polls` and `make_up` once at the beginning. `behind_pull`: it pulls first, and does the rest later; else it pulls
    once it has tried to discover.
    """

    __slots__ = ("_timetable", "audit", "jobs", "make_up", "polls", "reading", "refresh", "regular", "retries")

    def __init__(
        self,
        jobs: Jobs,
        retries: Retries,
        timetable: Timetable,
        kinds: "Kinds",
        behind_pull: BehindPull | None = None,
    ) -> None:
        self.jobs, self.retries, self._timetable, enter = jobs, retries, timetable, timetable.enter
        self.reading = enter(kinds.pull, self, first_s=0.0 if behind_pull else math.inf)
        after = behind_pull or AT_ONCE
        self.regular = (self.reading, enter(kinds.discovery, self, first_s=after.discovery_s))
        self.polls = tuple(enter(kind, self, first_s=after.polls_s) for kind in kinds.polls)
        self.make_up = enter(kinds.make_up, self, first_s=after.polls_s)
        self.audit = enter(kinds.audit, self, first_s=math.inf)
        self.refresh = enter(kinds.refresh, self, first_s=math.inf)
        jobs.outbox.ask_refresh = self._ask_refresh

    def _ask_refresh(self) -> None:
        self._timetable.hasten(self.refresh, 0.0)

    @property
    def entries(self) -> list[Entry]:
        """All that is done for it."""
        return [*self.regular, *self.polls, self.make_up, self.audit, self.refresh]

    @property
    def asking(self) -> Iterator[Entry]:
        """What of that asks the API."""
        return (entry for entry in self.entries if entry.kind.asks is not None)


class Kinds:
    """What is done for each connection of a process, in so many `slots`. Pulls and discoveries may hasten each other in
    the `timetable`.
    """

    def __init__(self, timetable: Timetable, slots: Slots, intervals: Intervals) -> None:
        self._timetable, self._slots, once = timetable, slots, math.inf
        self.pull: Kind[AtWork] = Kind(intervals.pull_s, self._pull, _again("pull"), asks=_is_trusted)
        self.discovery: Kind[AtWork] = Kind(
            intervals.discovery_s, self._rediscover, _again("discovery"), slots.discoveries, _is_trusted
        )
        self.polls: tuple[Kind[AtWork], ...] = (
            Kind(once, lambda work: work.jobs.wake_outbox()),
            Kind(once, lambda work: work.jobs.polls.find_earlier(), slots=slots.others),
            Kind(once, lambda work: work.jobs.polls.look_up(), _again("settle"), slots.look_ups, _is_trusted),
        )
        self.make_up: Kind[AtWork] = Kind(
            once, lambda work: work.jobs.audit.make_up(), _again("audit"), slots.audits, _is_trusted
        )
        self.audit: Kind[AtWork] = Kind(once, self._audit, slots=slots.audits, asks=_is_trusted)
        self.refresh: Kind[AtWork] = Kind(once, self._refresh, asks=_is_trusted)

    async def _pull(self, work: AtWork) -> None:
        await work.jobs.pull(self._slots.pulls, self._slots.backfills)

    async def _rediscover(self, work: AtWork) -> None:
        has_found = await work.jobs.rediscover()
        if has_found or not work.reading.is_planned:  # its outbox may have had it pulled meanwhile, once
            self._timetable.hasten(work.reading, 0.0)  # and not here, where others wait to discover

    async def _audit(self, work: AtWork) -> None:
        await work.jobs.audit.begin()
        self._timetable.retry(work.make_up)

    async def _refresh(self, work: AtWork) -> None:
        """What the outbox waits for is read as all else is: in its turn, and only by whoever may ask."""

        async def discover() -> object:
            async with self._slots.discoveries:
                return await work.jobs.discover()

        await work.jobs.outbox.refresh(discover, lambda: self._pull(work))


def _again(job: str) -> Callable[[AtWork], float | None]:
    return lambda work: work.retries.pause_s(job)


def _is_trusted(work: AtWork) -> bool:
    return work.jobs.connection.tenure.is_trusted()
