"""Instants that PostgreSQL can tell and Python cannot: infinity, before the year 1 and behind 9999.

What writes past the outbox's triggers, as a replication's worker does, may store one, and so may anybody who changes a
row by hand. psycopg then fails the whole answer, with every row that was read beside it.
"""

from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.pq import Format

FIRST, LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
"""Such an instant is read as one of these, with room for what is added to it or taken from it."""
TIMESTAMPTZ = "timestamptz"
YEARS = 4
"""Digits of one that Python can tell."""


class BoundedLoader(Loader):
    """Reads instants as psycopg does, and those that it cannot as the first or the last one."""

    format = Format.TEXT

    def __init__(self, oid: int, context: Any = None) -> None:
        super().__init__(oid, context)
        usual = psycopg.adapters.get_loader(oid, Format.TEXT)
        assert usual is not None  # noqa: S101 - of PostgreSQL's own types
        self._usual = usual(oid, context)

    def load(self, data: Buffer) -> Any:
        """An instant. `DataError` for what is none of ISO's, as where somebody has changed DateStyle."""
        try:
            return self._usual.load(data)
        except psycopg.DataError:
            told = bytes(data).decode()
            if told == "-infinity" or told.endswith(" BC"):
                return FIRST
            if told == "infinity" or len(told.partition("-")[0]) > YEARS:
                return LAST
            raise


def read_all_instants(connection: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]") -> None:
    """Have a connection fail no answer for an instant in it."""
    connection.adapters.register_loader(TIMESTAMPTZ, BoundedLoader)
