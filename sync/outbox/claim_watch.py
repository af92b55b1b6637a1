"""Whose claims are over: those of which this process saw no sign of life for as long as they are good for.

That is timed by this process's own monotonic clock, from when it saw the last sign. The database's clock, which may be
stepped while a call is under way, decides nothing. A process that has just begun to watch waits for a whole lease.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from sync.outbox.database_clock import DatabaseClock


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """An attempt as its owner last noted it: `until` moves with each sign; `lease` is how long each is good for."""

    attempt_id: UUID
    until: datetime
    lease: timedelta


NONE_SEEN: Mapping[UUID, tuple[datetime, float]] = MappingProxyType({})
"""There once: most connections have no attempt open."""


class ClaimWatch:
    """The attempts that one process knows of; its own are never over while they are in flight.

    `lease` is the least that any claim is good for. `clock` gives seconds that only go forward; `database_clock`
    compares the database's with it.
    """

    __slots__ = ("_clock", "_given_up", "_in_flight", "_last_seen", "_lease", "_orphans_after_s", "database_clock")

    def __init__(self, lease: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease = lease
        self._clock = clock
        self.database_clock = DatabaseClock(clock)
        self._last_seen = NONE_SEEN
        # Dicts of nothing: an empty set takes 200 bytes of each connection.
        self._in_flight = dict[UUID, None]()
        self._given_up = dict[UUID, None]()
        self._orphans_after_s = clock()

    @contextmanager
    def in_flight(self, attempt_id: UUID) -> Iterator[None]:
        """While this process has the calls of an attempt under way, or its rows in hand.

        What it leaves open then, as without a database, nobody completes any more: that is over at once.
        """
        self._in_flight[attempt_id] = None
        try:
            yield
        finally:
            self._in_flight.pop(attempt_id, None)
            self._given_up[attempt_id] = None

    def expired(self, signs: Iterable[SignOfLife]) -> list[SignOfLife]:
        """Of all open attempts those that are over."""
        now_s = self._clock()
        seen_before, last_seen = self._last_seen, dict[UUID, tuple[datetime, float]]()
        over = []
        for sign in signs:
            until, seen_s = seen_before.get(sign.attempt_id, (None, now_s))
            if until != sign.until or sign.attempt_id in self._in_flight:
                seen_s = now_s
            last_seen[sign.attempt_id] = (sign.until, seen_s)
            if sign.attempt_id in self._given_up or now_s - seen_s >= max(self._lease, sign.lease).total_seconds():
                over.append(sign)
        self._last_seen = last_seen or NONE_SEEN
        self._given_up = dict.fromkeys(one for one in self._given_up if one in self._last_seen)
        return over

    def is_time_for_orphans(self) -> bool:
        """Whether to look for rows of attempts that are not there: at first, and once a lease from then on."""
        if self._clock() < self._orphans_after_s:
            return False
        self._orphans_after_s = self._clock() + self._lease.total_seconds()
        return True

    def wait_s(self) -> float:
        """After how many seconds the first of the attempts may be over that are known."""
        if self._given_up:
            return 0.0
        first_s = min((seen_s for _, seen_s in self._last_seen.values()), default=self._clock())
        return max(0.0, first_s + self._lease.total_seconds() - self._clock())
