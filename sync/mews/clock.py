"""The server's clock, read off the `Date` header of its answers and believed within reason.

A `Date` is believed where one of three other clocks confirms it to within a tolerance:

- the last one believed, carried forward by this machine's stop-watch: of the same connection, or before its first
  answer of any other one of its address in this process;
- this machine's wall clock;
- the database's, corrected by how far the server's was from it when a pull last caught up (`expect`), which is asked at
  a start and whenever the last `Date` was not believed.

| the API's clock | this machine's | what was known before | the `Date` is |
| --- | --- | --- | --- |
| right | right | anything | believed: this machine confirms it |
| right | wrong | right, of this process or of one before | believed: what was known confirms it |
| right | wrong | nothing, and the database's clock is right | believed: the database confirms it |
| right | wrong | nothing, and the database's clock is as wrong | refused: nobody here could tell which one is right |
| wrong | right | anything | refused |
| wrong | wrong in another way | anything | refused |
| wrong | wrong alike | anything | believed, as nothing here contradicts it |

A wrong clock that was believed would move watermarks to where nothing has been read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

MAX_DRIFT = 0.001
"""How much faster than the server's the clock here may run, as a share of the time since the last answer."""

COARSE = timedelta(seconds=2)
"""A `Date` is cut to a whole second and a while on its way: a clock stepped by just the tolerance is within it."""

TOLERANCE = timedelta(days=1)

LEAP = timedelta(minutes=1)
"""By more than this no stop-watch falls behind in half a day without an answer: the server's clock was put forward."""


def wall_clock() -> datetime:
    """What this machine's clock shows, right or wrong."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ClockReading:
    """An instant, and when it was read, in seconds of the stop-watch."""

    instant: datetime
    read_s: float

    def carried(self, now_s: float) -> datetime:
        """The same by now, not ahead of the clock that it was read from."""
        return self.instant + timedelta(seconds=(now_s - self.read_s) * (1 - MAX_DRIFT))


@dataclass(slots=True)
class PlatformClock:
    """The last reading that any connection of an address has believed in this process; None before there is any."""

    last: ClockReading | None = None


class ServerClock:
    """Estimates the server's time, never ahead of it: this machine's wall clock only confirms it.

    `clock` gives seconds that only go forward. The header's instant was cut to a whole second and is older than its
    arrival, so adding the time since (less what the stop-watch may run fast) stays behind the server's own clock.
    What is read off it is noted in `platform` too, and what others noted there is known before the first answer: else
    each of thousands of connections would ask for the time when it begins. `refused`: why the last `Date` was not
    believed; None if it was.
    """

    __slots__ = ("_clock", "_expected", "_last", "_leapt_from", "_machine", "_platform", "_tolerance", "refused")

    def __init__(
        self,
        clock: Callable[[], float],
        tolerance: timedelta = TOLERANCE,
        machine: Callable[[], datetime] = wall_clock,
        platform: PlatformClock | None = None,
    ) -> None:
        self._clock = clock
        self._tolerance = tolerance
        self._machine = machine
        self._expected: ClockReading | None = None
        self._leapt_from: datetime | None = None
        self._last: ClockReading | None = None
        self._platform = platform or PlatformClock()
        self.refused: str | None = None

    @property
    def last(self) -> ClockReading | None:
        """The last reading that was believed."""
        return self._last or self._platform.last

    @property
    def needs_witness(self) -> bool:
        """Whether `expect` may help: nothing is believed yet, or not what the server told last."""
        return self.last is None or self.refused is not None

    def expect(self, instant: datetime) -> None:
        """Take what the server's clock shows now by what was known of it before this process began."""
        self._expected = ClockReading(instant, self._clock())

    def observe(self, date_header: str | None) -> None:
        """Take the `Date` header of an answer that has just arrived; a missing or unreadable one is passed over."""
        if date_header is None:
            return
        try:
            date = parsedate_to_datetime(date_header)
            if date.tzinfo is None:  # "-0000" leaves the zone open, so it could not be compared with other clocks
                return
            date = date.astimezone(UTC)
        except (ValueError, OverflowError):
            return
        now_s, machine = self._clock(), self._machine()
        known = [one.carried(now_s) for one in (self.last, self._expected) if one]
        if any(abs(date - witness) <= self._tolerance + COARSE for witness in (machine, *known)):
            if self.last and self._leapt_from is None and date - (before := self.last.carried(now_s)) > LEAP:
                self._leapt_from = before
            self._last, self.refused = ClockReading(date, now_s), None
            self._platform.last = self._last
        else:
            self.refused = _why_refused(date, machine, known)

    def now(self) -> datetime | None:
        """The server's time, aware, by the last reading that was believed; None before there is any."""
        return self.last.carried(self._clock()) if self.last else None

    def read_on_from(self, now: datetime) -> datetime:
        """From where to read on once the server's clock shows `now`, and something was read through a later instant.

        While it was ahead, windows lay in a time to come: of what was changed meanwhile they held nothing.
        """
        return min(now, self._leapt_from) if self._leapt_from else now

    def forget_leap(self) -> None:
        """It is read on from there."""
        self._leapt_from = None


def _why_refused(date: datetime, machine: datetime, known: list[datetime]) -> str:
    by_before = f", by what was known before it is {_told(known[0])}" if known else ""
    return f"the API's clock shows {_told(date)}, this machine's {_told(machine)}{by_before}"


def _told(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M:%S}Z"
