"""Instants, written short."""

from datetime import UTC, datetime
from functools import partial

utc = partial(datetime, tzinfo=UTC)
"""`utc(2026, 1, 31)`: the parts of an instant, from the year on."""
