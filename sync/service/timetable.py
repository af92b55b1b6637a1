"""What is due when, by the monotonic clock: any number of jobs, fired by one tick."""

import asyncio
import heapq
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random
from typing import Any, Generic, TypeVar

LEAST_ROOM = 1000
"""So many times at least are kept before those are dropped that count no more."""
JITTER = 0.1
"""Share of an interval by which its runs are spread, so that many services do not call at the same second."""

Job = Callable[[], Awaitable[object]]
Subject = TypeVar("Subject")


@dataclass(frozen=True, eq=False, slots=True)
class Kind(Generic[Subject]):
    """A job that is done for each of many, about every `interval_s` seconds.

    `pause_s`: after how many seconds it is done again if it failed; infinity: once it is made up for. `asks`: what asks
    the API tells by it whether it may; else it is left out this time.
    """

    interval_s: float
    job: Callable[[Subject], Awaitable[object]]
    pause_s: Callable[[Subject], float | None] = lambda _: None
    slots: asyncio.Semaphore | None = None
    asks: Callable[[Subject], bool] | None = None


@dataclass(eq=False, slots=True)
class Entry:
    """A job for one of them, which never runs twice at once. `due_s` by the timetable's clock."""

    kind: Kind[Any]
    of: Any
    due_s: float
    task: "asyncio.Task[None] | None" = field(default=None, repr=False)
    is_removed: bool = False
    is_missed: bool = False

    @property
    def is_planned(self) -> bool:
        """Whether it is due at any time; one that is only hastened begins without."""
        return self.due_s < math.inf


class Timetable:
    """`plan` is called whenever something is due sooner than `wait_s` said before."""

    def __init__(self, rng: Random, plan: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._rng = rng
        self._plan = plan
        self._clock = clock
        self._due: list[tuple[float, int, Entry]] = []
        self._number = count()
        self._room = LEAST_ROOM
        self._ticked_s = clock()

    def enter(self, kind: Kind[Subject], of: Subject, *, first_s: float = 0.0) -> Entry:
        """Have it done after `first_s` seconds, and from then on about at the interval of its kind, spread by `JITTER`.

        It is handed `of`.
        """
        entry = Entry(kind, of, self._clock() + first_s)
        self._put(entry)
        self._plan()
        return entry

    def every(self, interval_s: float, job: Job, *, first_s: float = 0.0) -> Entry:
        """The same of a job that is there once."""
        return self.enter(Kind(interval_s, lambda _: job()), None, first_s=first_s)

    def wait_s(self) -> float:
        """Seconds until something is due."""
        return max(0.0, self._due[0][0] - self._clock()) if self._due else float("inf")

    def is_moving(self, within_s: float) -> bool:
        """Whether it was ticked within so many seconds."""
        return self._clock() - self._ticked_s <= within_s

    async def tick(self) -> None:
        """Begin all that is due."""
        self._ticked_s = now_s = self._clock()
        due = []
        while self._due and self._due[0][0] <= now_s:
            due.append(heapq.heappop(self._due))
        # Only then are they put back: an interval shorter than the clock can tell would be due again at once, for ever.
        for due_s, _, entry in due:
            if entry.is_removed or due_s != entry.due_s:
                continue  # it was put elsewhere since
            kind = entry.kind
            entry.due_s = now_s + kind.interval_s * self._rng.uniform(1 - JITTER, 1 + JITTER)
            self._put(entry)
            if kind.asks is not None and not kind.asks(entry.of):
                entry.is_missed = True
            elif entry.task is None or entry.task.done():
                entry.is_missed = False
                entry.task = asyncio.create_task(self._run(entry))
            elif entry.task.cancelling():  # what is due is not this one, and comes once it has ended
                entry.task.add_done_callback(partial(self._hasten_behind, entry))
        self._plan()

    def _hasten_behind(self, entry: Entry, _ended: "asyncio.Task[None]") -> None:
        self.hasten(entry, 0.0)

    def hasten(self, entry: Entry, pause_s: float) -> None:
        """Have it done after `pause_s` seconds at the latest."""
        due_s = self._clock() + pause_s
        if due_s < entry.due_s and not entry.is_removed:
            entry.due_s = due_s
            self._put(entry)
            self._plan()

    def retry(self, entry: Entry) -> None:
        """Have it done again soon, if it failed; or as it was missed, where that would be in vain for now."""
        if (seconds := entry.kind.pause_s(entry.of)) == math.inf:
            entry.is_missed = True
        elif seconds is not None:
            self.hasten(entry, seconds)

    def remove(self, entries: Iterable[Entry]) -> None:
        """Begin these no more."""
        for entry in entries:
            entry.is_removed = True

    def cancel(self, entries: Iterable[Entry]) -> None:
        """End what of these is under way."""
        for entry in entries:
            if entry.task is not None and not entry.task.done():
                entry.is_missed = True
                entry.task.cancel()

    def make_up(self, entries: Iterable[Entry], spread_s: float) -> None:
        """Have those of these that were left out or ended done soon, spread over so many seconds for each."""
        missed = [entry for entry in entries if entry.is_missed]
        for entry in missed:
            entry.is_missed = False
            self.hasten(entry, self._rng.uniform(0, spread_s * (len(missed) - 1)))

    async def _run(self, entry: Entry) -> None:
        slot: AbstractAsyncContextManager[object] = entry.kind.slots or nullcontext()
        # A job that is cancelled because the grace is over would be logged as one that failed.
        with suppress(asyncio.CancelledError):
            async with slot:
                if entry.is_removed:
                    return
                await entry.kind.job(entry.of)
            self.retry(entry)
        entry.task = None  # what has ended keeps two kilobytes

    def _put(self, entry: Entry) -> None:
        if entry.due_s < math.inf:  # else it is only hastened, and what is left of each time would stay for ever
            heapq.heappush(self._due, (entry.due_s, next(self._number), entry))
            if len(self._due) > self._room:
                self._drop_former()

    def _drop_former(self) -> None:
        """Drop the times of what was hastened since: each try of what fails would leave one, for its whole interval."""
        self._due = [one for one in self._due if one[0] == one[2].due_s and not one[2].is_removed]
        heapq.heapify(self._due)
        self._room = max(LEAST_ROOM, 2 * len(self._due))
