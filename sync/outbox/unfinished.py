"""Which connections have anything unfinished in the outbox: one look for all that a process works for.

Thousands of hotels have nothing to push for hours. What each of them would ask of the database every few seconds, this
asks once for all: it goes from one connection to the next that has something, so what it costs grows with these alone.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Interval, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.mirror.upsert import READ_BACK_FOR
from sync.outbox.claims import as_daemon
from sync.postgres.engine import in_transaction

FRESH = 0.1
"""Share of the time between two polls for which a look serves all who ask."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The connections that have changes to send, calls under way or of unknown outcome, or deletes to read back.

    `has_unassigned`: some changes belong to no connection yet, and may be anybody's. `now` is the database's clock.
    """

    connections: frozenset[str]
    has_unassigned: bool
    now: datetime


async def load_unfinished(tx: AsyncConnection) -> Unfinished:
    """What is unfinished now, of all connections."""
    # By statistics of an outbox that was emptied since, a sort seems as cheap as the index, and reads all that waits.
    await tx.exec_driver_sql("SET LOCAL enable_sort = off")
    row = (await tx.execute(_UNFINISHED, {"read_back_for": READ_BACK_FOR})).one()
    return Unfinished(frozenset(row.connections), row.has_unassigned, row.now)


class UnfinishedLook:
    """The last look, for all connections of a process; `poll_s` is how often each of them asks."""

    def __init__(self, engine: AsyncEngine, poll_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._fresh_for_s = poll_s * FRESH
        self._clock = clock
        self._looking = asyncio.Lock()
        self._last: tuple[Unfinished, float] | None = None

    async def concerns(self, connection: str) -> bool:
        """Whether anything unfinished is, or may be, this connection's. Raises `DatabaseError`."""
        async with self._looking:
            seen, seen_s = self._last or (None, 0.0)
            if seen is None or self._clock() - seen_s > self._fresh_for_s:
                seen, seen_s = await in_transaction(self._engine, load_unfinished, as_daemon), self._clock()
                self._last = seen, seen_s
        return seen.has_unassigned or connection in seen.connections

    def database_now(self) -> datetime | None:
        """What the database's clock shows, as far as it has gone on evenly since the last look; None before that."""
        if self._last is None:
            return None
        seen, seen_s = self._last
        return seen.now + timedelta(seconds=self._clock() - seen_s)


# Each step of a recursion finds the next connection in an index: a million rows of one cost one step. What is sent and
# not completed has an attempt; rows of attempts that are not there are looked for by each connection, now and then.
_UNFINISHED = text("""
WITH RECURSIVE pending AS (
  (SELECT row.connection FROM mews.voucher_code_outbox AS row
   WHERE left(row.status, 7) = 'pending' AND row.connection IS NOT NULL
   ORDER BY row.connection, row.next_attempt_at, row.id LIMIT 1)
UNION ALL
  SELECT (
    SELECT row.connection FROM mews.voucher_code_outbox AS row
    WHERE left(row.status, 7) = 'pending' AND row.connection > pending.connection
    ORDER BY row.connection, row.next_attempt_at, row.id LIMIT 1
  ) FROM pending WHERE pending.connection IS NOT NULL
), deleted AS (
  (SELECT code.connection FROM mews.voucher_codes AS code WHERE code.delete_noted_at IS NOT NULL
   ORDER BY code.connection, code.delete_noted_at LIMIT 1)
UNION ALL
  SELECT (
    SELECT code.connection FROM mews.voucher_codes AS code
    WHERE code.delete_noted_at IS NOT NULL AND code.connection > deleted.connection
    ORDER BY code.connection, code.delete_noted_at LIMIT 1
  ) FROM deleted WHERE deleted.connection IS NOT NULL
), unfinished AS (
  SELECT connection FROM pending
UNION SELECT connection FROM sync.attempts
UNION SELECT connection FROM deleted WHERE EXISTS (
  SELECT FROM mews.voucher_codes AS code
  WHERE code.connection = deleted.connection AND code.delete_noted_at > now() - :read_back_for
))
SELECT coalesce((SELECT array_agg(connection) FROM unfinished WHERE connection IS NOT NULL), '{}') AS connections,
       EXISTS (
         SELECT FROM mews.voucher_code_outbox AS row WHERE row.connection IS NULL AND row.status IN ('pending', 'held')
       ) AS has_unassigned,
       clock_timestamp() AS now
""").bindparams(bindparam("read_back_for", type_=Interval))
