"""Rows of the outbox of which something that a user put on the table lets nothing be noted."""

import time
from collections.abc import Collection, Iterable
from datetime import timedelta

SET_ASIDE_FOR = timedelta(minutes=5)


class SetAside:
    """Rows that take no note of anything, and are left alone for a while: so far as this process has found out."""

    __slots__ = ("until_s",)

    def __init__(self) -> None:
        self.until_s: dict[int, float] = {}

    def add(self, row_ids: Iterable[int]) -> None:
        """Leave these alone from now on."""
        self.until_s |= dict.fromkeys(row_ids, time.monotonic() + SET_ASIDE_FOR.total_seconds())

    def row_ids(self) -> Collection[int]:
        """What is left alone now."""
        now_s = time.monotonic()
        self.until_s = {row_id: until_s for row_id, until_s in self.until_s.items() if until_s > now_s}
        return self.until_s.keys()
