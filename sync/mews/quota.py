"""The share of a request budget that one kind of request may have."""

from bisect import bisect_right
from dataclasses import dataclass, field

RECHECK_AFTER_S = 1.0


@dataclass(slots=True)
class Quota:
    """The places of requests of one priority, of which there are at most `limit` in a window."""

    limit: int
    in_flight: int = 0
    free_at: list[float] = field(default_factory=list)

    def wait_s(self, now: float) -> float:
        """Seconds until there is one."""
        free_those_of(self.free_at, now)
        if self.in_flight + len(self.free_at) < self.limit:
            return 0.0
        return self.free_at[0] - now if self.free_at else RECHECK_AFTER_S

    def hold(self, free_at: float, now: float) -> None:
        """Have a place free again at an instant, and let go of those that are by now: else they may stay for ever."""
        free_those_of(self.free_at, now)
        self.free_at.append(free_at)


def free_those_of(free_at: list[float], now: float) -> None:
    """Let go of what is free by now, of instants that only grow."""
    del free_at[: bisect_right(free_at, now)]
