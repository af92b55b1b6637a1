"""Which windows of time to read for which vouchers: pure decisions.

The API filters `UpdatedUtc` by half-open intervals of at most 3 calendar months; equal ends would mean equality
(docs/mews-api.md, *Time intervals*). It counts whole seconds, so every bound here is a whole second.
"""

import calendar
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TypeVar
from uuid import UUID

from sync.mews.limits import MAX_PAGE_SIZE, MAX_VOUCHERS, MAX_WINDOW_MONTHS, Window, smaller_page

_T = TypeVar("_T")

MIN_WINDOW = timedelta(days=1)
"""Shorter windows would not be lighter, since a page bounds what is read, and too many to ever catch up."""
OLDEST_START = datetime(2012, 1, 1, tzinfo=UTC)
"""Where a backfill begins when nothing says when any voucher was created: the year the vendor was founded."""


REDUCED_FOR = timedelta(days=1)
"""How long reduced limits are kept; then the full ones are tried again."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How much of a group of vouchers the API has shown itself able to read in one call."""

    page_size: int = MAX_PAGE_SIZE
    window_limit: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Watermark:
    """Everything of a voucher up to `complete_through` is mirrored."""

    voucher_id: UUID
    complete_through: datetime
    read_limits: ReadLimits = ReadLimits()


@dataclass(frozen=True, slots=True)
class BackfillCandidate:
    """A voucher to mirror, and when it was created, if the API says so."""

    voucher_id: UUID
    created_utc: datetime | None


@dataclass(frozen=True, slots=True)
class Plan:
    """Windows, adjoining and oldest first, to be read for a group of vouchers."""

    voucher_ids: tuple[UUID, ...]
    windows: tuple[Window, ...]
    read_limits: ReadLimits
    is_backfill: bool

    @property
    def start(self) -> datetime:
        return self.windows[0].start

    @property
    def end(self) -> datetime:
        return self.windows[-1].end


def plan_pull(
    watermarks: Iterable[Watermark], *, now: datetime, overlap: timedelta, limit: int = MAX_VOUCHERS
) -> Iterator[Plan]:
    """Plans that bring vouchers from their watermarks to the server's `now`.

    Vouchers that are read within the same limits share calls, oldest watermark first, and a group begins at its oldest:
    what a younger member reads again it has already, and the number of calls stays one per 1000 vouchers.
    """
    by_limits = groupby(sorted(watermarks, key=_limits_then_age), key=lambda watermark: watermark.read_limits)
    for read_limits, group in by_limits:
        for members in chunks(list(group), limit):
            # A server's clock that was set back must not produce a window that ends before it starts.
            oldest = min(members[0].complete_through, now)
            windows = split(oldest - overlap, now, read_limits.window_limit)
            yield Plan(tuple(member.voucher_id for member in members), tuple(windows), read_limits, is_backfill=False)


def plan_backfill(
    candidates: Iterable[BackfillCandidate],
    *,
    now: datetime,
    overlap: timedelta,
    backfill_from: datetime | None,
    limit: int = MAX_VOUCHERS,
) -> Iterator[Plan]:
    """Plans that mirror vouchers from their beginning.

    That is `backfill_from` if the operator set it, else the creation of the group's oldest voucher: codes cannot be
    older than their voucher, and vouchers that begin together share their calls.
    """
    for members in chunks(sorted(candidates, key=_creation), limit):
        # An unset date of .NET lies in the year 1, and would make 8,000 windows.
        start = backfill_from or max(members[0].created_utc or OLDEST_START, OLDEST_START)
        windows = split(min(start, now - overlap), now)
        yield Plan(tuple(member.voucher_id for member in members), tuple(windows), ReadLimits(), is_backfill=True)


def split(start: datetime, end: datetime, limit: timedelta | None = None) -> Iterator[Window]:
    """Windows from `start` to `end` that adjoin, none over 3 calendar months or over `limit`.

    Bounds are cut to whole seconds. Months are counted from each window's own start, as the API counts them: counted
    from the first, 31 January, the second would last from 30 April to 31 July, a day too long.
    """
    begin, last = start.replace(microsecond=0), end.replace(microsecond=0)
    while begin < last:
        stop = min(last, add_months(begin, MAX_WINDOW_MONTHS), begin + limit if limit else last)
        yield Window(begin, stop)
        begin = stop


def reduce(read_limits: ReadLimits, window: Window) -> ReadLimits | None:
    """The limits to go on with after the API called a page of `window` too heavy (408); None if they are the least.

    The page shrinks first, since that keeps the number of windows; then the window. One that is longer than the limits
    allow, as those planned before are, has only to be split.
    """
    if read_limits.window_limit and window.length > read_limits.window_limit:
        return read_limits
    if (page_size := smaller_page(read_limits.page_size)) is not None:
        return ReadLimits(page_size, read_limits.window_limit)
    half = timedelta(seconds=int(window.length.total_seconds()) // 2)
    return ReadLimits(read_limits.page_size, max(MIN_WINDOW, half)) if window.length > MIN_WINDOW else None


def add_months(instant: datetime, months: int) -> datetime:
    """`months` calendar months later, on the month's last day where the day does not exist in it."""
    year, month0 = divmod(instant.year * 12 + instant.month - 1 + months, 12)
    last_day = calendar.monthrange(year, month0 + 1)[1]
    return instant.replace(year=year, month=month0 + 1, day=min(instant.day, last_day))


def chunks(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Slices of at most `size` items, in order."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _limits_then_age(watermark: Watermark) -> tuple[int, timedelta, datetime, UUID]:
    read_limits = watermark.read_limits
    return (
        read_limits.page_size,
        read_limits.window_limit or timedelta.max,
        watermark.complete_through,
        watermark.voucher_id,
    )


def _creation(candidate: BackfillCandidate) -> tuple[datetime, UUID]:
    # Sorted last, a voucher that hides its creation would be read only from where its neighbours begin.
    return candidate.created_utc or OLDEST_START, candidate.voucher_id
