"""The server's clock, read off the `Date` header of its answers."""

from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime

MAX_DRIFT = 0.001
"""How much faster than the server's the clock here may run, as a share of the time since the last answer."""

YEARS = range(2015, 2100)
"""What a clock may show. The API is not older, and no code of this project will be in use at the end of them."""


class ServerClock:
    """Estimates the server's time, never ahead of it: no clock of this machine but its stop-watch is used.

    `clock` gives seconds that only go forward. The header's instant was cut to a whole second and is older than its
    arrival, so adding the time since (less what the stop-watch may run fast) stays behind the server's own clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._reading: tuple[datetime, float] | None = None

    def observe(self, date_header: str | None) -> None:
        """Take the `Date` header of an answer that has just arrived; a missing or unreadable one is passed over."""
        if date_header is None:
            return
        try:
            date = parsedate_to_datetime(date_header)
        except (ValueError, OverflowError):
            return
        # "-0000" leaves the zone open, and a naive instant could not be compared with the API's. By a year that cannot
        # be the present hundreds of windows would be planned, and after 9999 there is no instant.
        if date.tzinfo is not None and date.year in YEARS:
            self._reading = (date, self._clock())

    def now(self) -> datetime | None:
        """The server's time, aware; None before any answer told it."""
        if self._reading is None:
            return None
        date, read_at = self._reading
        return date + timedelta(seconds=(self._clock() - read_at) * (1 - MAX_DRIFT))
