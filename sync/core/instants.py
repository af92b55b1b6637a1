"""Instants as people write them."""

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=4096)  # in a file of codes a few instants come again and again
def parse_instant(words: str) -> datetime:
    """An instant in ISO 8601, taken as UTC where no zone is given; a date is its first instant. `ValueError` if not."""
    try:
        instant = datetime.fromisoformat(words.strip())
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is no instant: write it as 2027-12-31, or 2027-12-31T22:59:59Z") from None
