"""What one call of the API may ask for.

It filters `UpdatedUtc` by half-open intervals of at most 3 calendar months; equal ends would mean equality.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_WINDOW_MONTHS = 3
MAX_VOUCHERS = 1000
MAX_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The instants from `start` up to, and without, `end`."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError(f"a window must begin before it ends: {self.start} .. {self.end}")

    @property
    def length(self) -> timedelta:
        return self.end - self.start
