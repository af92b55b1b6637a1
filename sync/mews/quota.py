"""The share of a request budget that one kind of request may have."""

from collections import deque
from dataclasses import dataclass, field

RECHECK_AFTER_S = 1.0


@dataclass(slots=True)
class Quota:
    """The places of requests of one priority, of which there are at most `limit` in a window."""

    limit: int
    in_flight: int = 0
    free_at: deque[float] = field(default_factory=deque)

    def wait_s(self, now: float) -> float:
        """Seconds until there is one."""
        while self.free_at and self.free_at[0] <= now:
            self.free_at.popleft()
        if self.in_flight + len(self.free_at) < self.limit:
            return 0.0
        return self.free_at[0] - now if self.free_at else RECHECK_AFTER_S
