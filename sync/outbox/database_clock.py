"""Whether the database's clock was stepped lately, and how far, told by this process's own monotonic clock.

A read-back waits until the API must show what it was sent. When that is stands in the database, by its clock: stepped
forward, the wait would be over before it has begun, and what the API shows late would be sent again. So nothing that is
due by that clock is looked up before this process has seen it go evenly for as long as the wait is; what it did before
that, nobody here knows.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

STEP = timedelta(seconds=2)
"""A smaller one is no more than an answer that was slow on its way."""

PutOff = Mapping[int, tuple[datetime, timedelta]]
"""Rows by number: until when each was put off, and by how much less it is to wait, unless it is put off anew."""
NOTHING: PutOff = MappingProxyType({})
NOT_AT_ALL = timedelta()


class DatabaseClock:
    """Compares the instants that the database tells. `clock` gives seconds that only go forward.

    `went_back` is how far the database's clock went back, all in all, since what waits by it was last brought forward;
    `missed` is what somebody had locked then.
    """

    __slots__ = ("_clock", "_even_since_s", "_last", "missed", "went_back")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: tuple[datetime, float] | None = None
        self._even_since_s: float | None = None
        self.went_back = NOT_AT_ALL
        self.missed = NOTHING

    @property
    def is_new(self) -> bool:
        """Whether it has observed nothing yet."""
        return self._last is None

    def observe(self, now: datetime, seen_by_others: datetime | None = None) -> None:
        """Take what the database's clock has just shown.

        The first time counts what other processes saw it show: it went back where that lies ahead, by no less than so
        much; what was put off between the two is due no later than was meant then.
        """
        now_s, step = self._clock(), NOT_AT_ALL
        if self._last:
            before, before_s = self._last
            step = (now - before) - timedelta(seconds=now_s - before_s)
        elif seen_by_others:
            step = min(step, now - seen_by_others)
        self._last = (now, now_s)
        if self._even_since_s is None or abs(step) >= STEP:
            self._even_since_s = now_s
            self.went_back = max(NOT_AT_ALL, self.went_back - step)

    def note_brought(self, by: timedelta, missed: PutOff) -> None:
        """Count no more by how much rows were brought forward, but for those that were missed."""
        self.went_back = max(NOT_AT_ALL, self.went_back - by)
        self.missed = missed

    def wait_s(self, even_for: timedelta) -> float:
        """Seconds until the clock may have been seen to go evenly for so long; 0 if it has."""
        even_since_s = self._clock() if self._even_since_s is None else self._even_since_s
        return max(0.0, even_since_s + even_for.total_seconds() - self._clock())
