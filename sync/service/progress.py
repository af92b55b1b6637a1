"""Whether a connection's pulls get on, page by page: a pull that never ends, and never reads anything, does not.

And for how long a process may begin no job.
"""

import time
from collections import Counter
from collections.abc import Callable

from sync.mirror.pull_report import PullReport

COUNTED = ("windows_done", "pages", "codes", "written", "rejected")
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


class Progress:
    """When a pull last read a page, or ended without an error, by `clock`, whose seconds only go forward.

    `totals` counts what pulls read and wrote since the process began, by the names of `PullReport`.
    """

    __slots__ = ("_begun_s", "_clock", "_counted", "_last_s", "_pages", "totals")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.totals: Counter[str] = Counter()
        self._clock, self._begun_s = clock, clock()
        self._last_s: float | None = None
        self._counted: Counter[str] = Counter()
        self._pages = 0

    def expect(self) -> None:
        """From now on pulls of this connection are to get on: its work begins, maybe long after the process did."""
        self._begun_s = self._clock()

    def begin(self) -> None:
        """A pull begins, and has read nothing yet."""
        self._counted.clear()

    def note(self, report: PullReport) -> None:
        """Take what the pull that goes on has read so far."""
        for name in COUNTED:
            count = getattr(report, name)
            self.totals[name] += count - self._counted[name]
            self._counted[name] = count
        if self.totals["pages"] > self._pages:
            self._pages = self.totals["pages"]
            self._last_s = self._clock()

    def end(self, report: PullReport) -> None:
        """Take how it ended; not called where it failed as a whole. A turn that is over is none of an end."""
        self.note(report)
        self._counted.clear()
        if not (report.errors or report.stopped or report.left_over):
            self._last_s = self._clock()

    def age_s(self) -> float | None:
        """Seconds since; None where there was nothing of that so far."""
        return None if self._last_s is None else self._clock() - self._last_s

    def silent_s(self) -> float:
        """The same; where there was nothing of that so far, seconds since that was to be expected."""
        return self._clock() - (self._begun_s if self._last_s is None else self._last_s)
