"""What one call of the API may ask for.

It filters `UpdatedUtc` by half-open intervals of at most 3 calendar months; equal ends would mean equality.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

MAX_WINDOW_MONTHS = 3
MAX_VOUCHERS = 1000
MAX_PAGE_SIZE = 1000
MIN_PAGE_SIZE = 125
"""Of smaller pages a listing would need too many; an API that cannot read so much is asked about fewer vouchers."""


def smaller_page(page_size: int) -> int | None:
    """The page to ask for after the API called one of `page_size` records too heavy (408); None: that was the least."""
    return max(MIN_PAGE_SIZE, page_size // 2) if page_size > MIN_PAGE_SIZE else None


@dataclass(slots=True)
class PageSize:
    """How many records a listing asks for at a time: it only ever asks for fewer, as long as this lives."""

    count: int = MAX_PAGE_SIZE


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
