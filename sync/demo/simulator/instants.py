"""Instants as the API keeps them: UTC, whole seconds, and an order by (UpdatedUtc, Id)."""

import calendar
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import UUID

Clock = Callable[[], datetime]
"""Returns the simulated server's time, aware and in UTC."""

NEWEST = 1 << 192
"""A position above that of every record."""

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_ID_BITS = 128


def whole_seconds(instant: datetime) -> datetime:
    """The instant in UTC without its fraction of a second: the API stores and shows no finer."""
    return instant.astimezone(UTC).replace(microsecond=0)


def later_by_months(instant: datetime, months: int) -> datetime:
    """The same day and time `months` calendar months later, or the last day of a month that is too short for it."""
    years, month0 = divmod(instant.month - 1 + months, 12)
    year, month = instant.year + years, month0 + 1
    if year > _END.year:
        return _END
    return instant.replace(year=year, month=month, day=min(instant.day, calendar.monthrange(year, month)[1]))


def position(updated_utc: datetime | None, record_id: UUID) -> int:
    """Where a record stands in the order of pages: a larger number is newer, and a null instant is the oldest of all.

    One integer compares several times faster than a tuple of an instant and a UUID, and reading is all comparisons.
    """
    second = 0 if updated_utc is None else (updated_utc - _BEGINNING) // _SECOND + 1
    return second << _ID_BITS | record_id.int


def positions_between(start_utc: datetime, end_utc: datetime) -> tuple[int, int]:
    """The positions (first included, last excluded) of the records updated in the interval.

    Half-open, or an equality filter if both instants are the same. Records without an instant are never inside.
    """
    low = _seconds_up(start_utc)
    # Rounded down and one added: an instant between two whole seconds then equals no record's.
    high = _seconds_up(end_utc) if end_utc > start_utc else (start_utc - _BEGINNING) // _SECOND + 1
    return low + 1 << _ID_BITS, high + 1 << _ID_BITS


def http_date(instant: datetime) -> str:
    """The instant as a Date or Retry-After header shows it."""
    return format_datetime(whole_seconds(instant), usegmt=True)


def _seconds_up(instant: datetime) -> int:
    return -((_BEGINNING - instant) // _SECOND)
