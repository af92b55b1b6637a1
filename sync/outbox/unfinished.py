"""Which connections have anything unfinished in the outbox: one look for all that a process works for.

Thousands of hotels have nothing to push for hours. What each of them would ask of the database every few seconds, this
asks once for all: it goes from one connection to the next that has something, so what it costs grows with these alone.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Integer, Interval, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.tables import IS_AT_WORK
from sync.mirror.upsert import READ_BACK_FOR
from sync.outbox.claims import as_daemon
from sync.outbox.tables import PENDING_CONNECTIONS, UNASSIGNED
from sync.postgres.shared_look import SharedLook

MAX_UNASSIGNED = 1000
"""More changes that belong to no connection are not looked at one by one."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The connections that have changes to send, calls under way or of unknown outcome, or deletes to read back.

    `pending`: those of them that have changes to send, with those whose vouchers changes are for that belong to none.
    `has_unassigned`: some changes of what no connection knows may be anybody's, and are due, or are too many to be
    looked at one by one. `left_behind`: who may mirror what changes are for that wait for another connection, for which
    nobody works; `abandoned`: connections for which nobody works, and of which claims have not expired yet. `now` is
    the database's clock.
    """

    connections: frozenset[str]
    pending: frozenset[str]
    has_unassigned: bool
    left_behind: frozenset[str]
    abandoned: frozenset[str]
    now: datetime

    def concerns(self, connection: str) -> bool:
        """Whether anything of it is, or may be, this connection's."""
        return connection in self.connections or self.has_to_send(connection)

    def has_to_send(self, connection: str) -> bool:
        """Whether changes are, or may be, this connection's to send."""
        return self.has_unassigned or connection in self.pending or connection in self.left_behind


async def load_unfinished(tx: AsyncConnection) -> Unfinished:
    """What is unfinished now, of all connections."""
    # By statistics of an outbox that was emptied since, a sort seems as cheap as the index, and reads all that waits.
    await tx.exec_driver_sql("SET LOCAL enable_sort = off")
    row = (await tx.execute(_UNFINISHED, {"read_back_for": READ_BACK_FOR})).one()
    found = (row.connections, row.pending, row.left_behind, row.abandoned)
    connections, pending, left_behind, abandoned = map(frozenset, found)
    return Unfinished(connections, pending, row.has_unassigned, left_behind, abandoned, row.now)


def unfinished_look(engine: AsyncEngine) -> SharedLook[Unfinished]:
    """The look of all connections of a process."""
    return SharedLook(engine, load_unfinished, as_daemon)


# What no connection knows and is not due, as by a mistyped voucher's id for next year, would have thousands ask for it.
# What is sent and not completed has an attempt; rows of attempts that are not there are looked for by each connection,
# now and then. The hotels of connections that nobody works for are found one by one, as those are.
_UNFINISHED = text(f"""
WITH RECURSIVE {PENDING_CONNECTIONS}, {UNASSIGNED}, left_behind AS (
  SELECT pending.connection, kind.operation, (
    SELECT row.enterprise_id FROM mews.voucher_code_outbox AS row
    WHERE row.status = 'pending' AND row.connection = pending.connection AND row.operation = kind.operation
    ORDER BY row.enterprise_id LIMIT 1
  ) AS enterprise_id
  FROM pending CROSS JOIN pg_catalog.unnest(ARRAY['add', 'delete']) AS kind(operation)
  WHERE pending.connection IS NOT NULL AND NOT {IS_AT_WORK.format(of="pending")}
UNION ALL
  SELECT hotel.connection, hotel.operation, (
    SELECT row.enterprise_id FROM mews.voucher_code_outbox AS row
    WHERE row.status = 'pending' AND row.connection = hotel.connection AND row.operation = hotel.operation
      AND row.enterprise_id > hotel.enterprise_id
    ORDER BY row.enterprise_id LIMIT 1
  ) FROM left_behind AS hotel WHERE hotel.enterprise_id IS NOT NULL
), deleted AS (
  (SELECT code.connection FROM mews.voucher_codes AS code WHERE code.delete_noted_at IS NOT NULL
   ORDER BY code.connection, code.delete_noted_at LIMIT 1)
UNION ALL
  SELECT (
    SELECT code.connection FROM mews.voucher_codes AS code
    WHERE code.delete_noted_at IS NOT NULL AND code.connection > deleted.connection
    ORDER BY code.connection, code.delete_noted_at LIMIT 1
  ) FROM deleted WHERE deleted.connection IS NOT NULL
), sendable AS (
  SELECT connection FROM pending WHERE connection IS NOT NULL
UNION
  SELECT known.connection FROM stray JOIN mews.vouchers AS known ON known.id = stray.voucher_id
), unfinished AS (
  SELECT connection FROM sendable
UNION SELECT connection FROM sync.attempts
UNION SELECT connection FROM deleted WHERE EXISTS (
  SELECT FROM mews.voucher_codes AS code
  WHERE code.connection = deleted.connection AND code.delete_noted_at > now() - :read_back_for
))
SELECT coalesce(
         (SELECT pg_catalog.array_agg(connection) FROM unfinished WHERE connection IS NOT NULL), '{{}}') AS connections,
       ARRAY(SELECT connection FROM sendable) AS pending,
       (SELECT count(*) > :most_unassigned OR coalesce(bool_or(row.status = 'pending' AND row.next_attempt_at <= now()
          OR EXISTS (SELECT FROM mews.voucher_codes AS known WHERE known.id = row.voucher_code_id)), false)
        FROM (SELECT * FROM unassigned LIMIT :most_unassigned + 1) AS row) AS has_unassigned,
       ARRAY(
         SELECT DISTINCT voucher.connection FROM left_behind AS hotel
         JOIN mews.vouchers AS voucher
           ON voucher.enterprise_id = hotel.enterprise_id AND voucher.connection <> hotel.connection
       ) AS left_behind,
       ARRAY(
         SELECT DISTINCT attempt.connection FROM sync.attempts AS attempt
         WHERE NOT {IS_AT_WORK.format(of="attempt")} AND (
           SELECT coalesce(bool_or(row.status = 'sending'), true) FROM mews.voucher_code_outbox AS row
           WHERE row.attempt_id = attempt.id AND row.status IN ('sending', 'uncertain'))
       ) AS abandoned,
       clock_timestamp() AS now
""").bindparams(  # noqa: S608 - put together of constants
    bindparam("read_back_for", type_=Interval), bindparam("most_unassigned", MAX_UNASSIGNED, type_=Integer)
)
