"""What a push leaves behind: sent and not finished, held by others, or not sent although it was due."""

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import BigInteger, Boolean, Interval, Text, and_, bindparam, exists, func, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.errors import DatabaseLocked
from sync.core.plurals import plural
from sync.outbox.rules import Status
from sync.outbox.tables import outbox
from sync.postgres.locks import blockers, describe

MAX_LOOKED_AT = 1000
"""Rows that are due, and may be held by others."""


async def has_backlog(tx: AsyncConnection, connection: str) -> bool:
    """Whether anything is due, or was sent and is not finished."""
    is_waiting = and_(
        outbox.c.status == Status.PENDING, or_(outbox.c.attempts > 0, outbox.c.next_attempt_at <= func.now())
    )
    is_unreconciled = outbox.c.status.in_([Status.SENDING, Status.UNCERTAIN])
    backlog = exists().where(outbox.c.connection == connection, or_(is_waiting, is_unreconciled))
    return bool((await tx.execute(select(backlog))).scalar_one())


async def count_unreconciled(tx: AsyncConnection, connection: str, claims_wait: timedelta) -> tuple[int, timedelta]:
    """Rows that were sent and of which nothing is known yet, and how long until the first is due to be looked up.

    `claims_wait`: how long until the first claim may be over.
    """
    row = (await tx.execute(_COUNT_UNRECONCILED, {"connection": connection, "claims_wait": claims_wait})).one()
    return row.number, timedelta(seconds=row.wait_s)


async def locked_by_others(tx: AsyncConnection, connection: str) -> DatabaseLocked | None:
    """Who holds rows that are due, as by SELECT ... FOR UPDATE: a claim passes over them. None: nobody does."""
    count = (await tx.execute(_COUNT_LOCKED, {"connection": connection, "most": MAX_LOOKED_AT})).scalar_one()
    if not count:
        return None
    found = await tx.run_sync(blockers, timedelta())
    return DatabaseLocked(
        f"{plural(count, 'change is', 'changes are')} due, and not sent: another transaction holds their rows. "
        f"{describe(found)}, then this goes on by itself"
    )


async def unsent_wait(
    tx: AsyncConnection, connection: str, without: Iterable[int], *, with_due: bool
) -> timedelta | None:
    """How long until the first row goes again that was given back, but for those of `without`; None: there is none.

    `with_due`: or until the first that was never claimed.
    """
    parameters = {"connection": connection, "without": list(without), "with_due": with_due}
    wait_s = (await tx.execute(_UNSENT_WAIT, parameters)).scalar_one()
    return None if wait_s is None else timedelta(seconds=wait_s)


# In seconds: a pooler may tell psycopg of another IntervalStyle than the one that the transaction has set, for as long
# as it remembers what a role or database has no longer.
_COUNT_UNRECONCILED = text("""
SELECT count(*) AS number, CAST(extract(epoch FROM
         coalesce(min(CASE row.status WHEN 'sending' THEN :claims_wait ELSE row.next_attempt_at - now() END),
                  interval '0')) AS float8) AS wait_s
FROM mews.voucher_code_outbox AS row
WHERE row.status IN ('sending', 'uncertain') AND row.connection = :connection
""").bindparams(bindparam("connection", type_=Text), bindparam("claims_wait", type_=Interval))

# Of rows that are due, those which no lock of ours can be had on.
_COUNT_LOCKED = text("""
WITH due AS (
  SELECT row.id FROM mews.voucher_code_outbox AS row
  WHERE row.status = 'pending' AND row.connection = :connection AND row.next_attempt_at <= now()
  LIMIT :most
), free AS (
  SELECT row.id FROM mews.voucher_code_outbox AS row WHERE row.id IN (SELECT due.id FROM due)
  FOR NO KEY UPDATE SKIP LOCKED
)
SELECT (SELECT count(*) FROM due) - (SELECT count(*) FROM free)
""")

# An attempt that is noted, of a row that is pending, was without effect.
_UNSENT_WAIT = text("""
SELECT CAST(extract(epoch FROM min(row.next_attempt_at) - now()) AS float8)
FROM mews.voucher_code_outbox AS row
WHERE row.status = 'pending' AND row.connection = :connection AND row.id <> ALL (:without)
  AND (row.attempts > 0 OR (:with_due AND row.next_attempt_at <= now()))
  AND (row.not_before IS NULL OR row.not_before <= now())
""").bindparams(
    bindparam("connection", type_=Text),
    bindparam("without", type_=ARRAY(BigInteger)),
    bindparam("with_due", type_=Boolean),
)
