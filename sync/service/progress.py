"""Whether a connection's pulls get on, page by page: a pull that never ends, and never reads anything, does not.

And for how long a process may begin no job.
"""

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields

from sync.mirror.pull_report import PullReport

INTERVALS = 3
LEAST_LATE_S = 30.0
"""However short the interval is: a call of the API may take as long."""

MISSED_POLLS = 3
LEAST_STILL_S = 10.0
"""However often outboxes are polled: a process without a connection fires once a second, and a look may take long."""


def stands_still_after_s(push_poll_s: float) -> float:
    """Seconds after which a process that begins no job counts as stuck: three polls of the outbox that it missed."""
    return max(MISSED_POLLS * push_poll_s, LEAST_STILL_S)


def late_after_s(pull_interval_s: float) -> float:
    """Seconds after which a connection does not get on: three intervals without a pull that read anything."""
    return max(INTERVALS * pull_interval_s, LEAST_LATE_S)


@dataclass(frozen=True, slots=True)
class PullTotals:
    """What pulls have read and written, by the names of `PullReport`."""

    windows_done: int = 0
    pages: int = 0
    codes: int = 0
    written: int = 0
    rejected: int = 0


NOTHING = PullTotals()
COUNTED = tuple(field.name for field in fields(PullTotals))


class Progress:
    """When a pull last read a page, or ended without an error, by `clock`, whose seconds only go forward.

    `totals` counts what pulls read and wrote since the process began.
    """

    __slots__ = ("_before", "_begun_s", "_clock", "_last_s", "totals")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.totals = self._before = NOTHING
        self._clock, self._begun_s = clock, clock()
        self._last_s: float | None = None

    def expect(self) -> None:
        """From now on pulls of this connection are to get on: its work begins, maybe long after the process did."""
        self._begun_s = self._clock()

    def begin(self) -> None:
        """A pull begins, and has read nothing yet."""
        self._before = self.totals

    def note(self, report: PullReport) -> None:
        """Take what the pull that goes on has read so far."""
        counts = (getattr(report, name) for name in COUNTED)
        totals = PullTotals(*map(sum, zip(astuple(self._before), counts, strict=True)))
        if totals.pages > self.totals.pages:
            self._last_s = self._clock()
        self.totals = totals

    def end(self, report: PullReport) -> None:
        """Take how it ended; not called where it failed as a whole. A turn that is over is none of an end."""
        self.note(report)
        self._before = self.totals
        if not (report.errors or report.stopped or report.left_over):
            self._last_s = self._clock()

    def age_s(self) -> float | None:
        """Seconds since; None where there was nothing of that so far."""
        return None if self._last_s is None else self._clock() - self._last_s

    def silent_s(self) -> float:
        """The same; where there was nothing of that so far, seconds since that was to be expected."""
        return self._clock() - (self._begun_s if self._last_s is None else self._last_s)
