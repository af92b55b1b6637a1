"""Whether the database's clock was stepped lately, told by this process's own monotonic clock.

A read-back waits until the API must show what it was sent. When that is stands in the database, by its clock: stepped
forward, the wait would be over before it has begun, and what the API shows late would be sent again.
"""

import math
from collections.abc import Callable
from datetime import datetime, timedelta

STEP_S = 2.0
"""A smaller one is no more than an answer that was slow on its way."""


class DatabaseClock:
    """Compares the instants that the database tells. `clock` gives seconds that only go forward."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: tuple[datetime, float] | None = None
        self._stepped_s = -math.inf

    def was_stepped(self, now: datetime, within: timedelta) -> bool:
        """Whether a step was seen within so long before; `now` is what the database's clock has just shown."""
        now_s = self._clock()
        if self._last:
            before, before_s = self._last
            if abs((now - before).total_seconds() - (now_s - before_s)) >= STEP_S:
                self._stepped_s = now_s
        self._last = (now, now_s)
        return now_s - self._stepped_s < within.total_seconds()
