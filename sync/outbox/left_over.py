"""What a push leaves behind: sent and not finished, held by others, or not sent although it was due."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import BigInteger, Boolean, Interval, Text, and_, bindparam, exists, func, or_, select, text, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.errors import DatabaseLocked
from sync.core.plurals import plural
from sync.outbox.each_row import KEPT, REFUSES, RESTS
from sync.outbox.rules import Status
from sync.outbox.tables import IS_UNFINISHED, PUT_OFF_UNTIL, outbox
from sync.outbox.uncertain import NOT_SHOWN
from sync.postgres.locks import blockers, describe
from sync.postgres.metadata import TIMESTAMP

MAX_LOOKED_AT = 1000
"""Rows that are due, and may be held by others."""


@dataclass(frozen=True, slots=True)
class LeftPending:
    """Rows that were not sent: how long until the first of them goes again, and whether one `waits_for_mirror`, as a
    delete of a code that no pull has shown yet.
    """

    wait: timedelta
    waits_for_mirror: bool


async def has_backlog(tx: AsyncConnection, connection: str, *, with_hidden: bool = True) -> bool:
    """Whether anything is due, or was sent and is not finished.

    `with_hidden`: also what was looked up in vain, since the API does not show its voucher.
    """
    is_waiting = and_(
        outbox.c.status == Status.PENDING, or_(outbox.c.attempts > 0, outbox.c.next_attempt_at <= func.now())
    )
    is_shown = true() if with_hidden else outbox.c.last_error.is_distinct_from(NOT_SHOWN)
    is_unreconciled = and_(outbox.c.status.in_([Status.SENDING, Status.UNCERTAIN]), is_shown)
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
    rows = "its row" if count == 1 else "their rows"
    # Nobody is found where it has ended meanwhile, or waits itself for somebody else.
    who = f". {describe(found)}, then it works again" if found else ""
    return DatabaseLocked(
        f"{plural(count, 'change is', 'changes are')} due, and not sent: another transaction holds {rows}{who}"
    )


async def find_unsent(
    tx: AsyncConnection, connection: str, without: Iterable[int], *, with_due: bool
) -> LeftPending | None:
    """Rows that were given back or put off a while, but for those of `without`, those that something on the table
    refuses to have changed, and those behind another one for the same code; None: there are none.

    `with_due`: and those that were never claimed.
    """
    parameters = {
        "connection": connection,
        "without": list(without),
        "with_due": with_due,
        "until": PUT_OFF_UNTIL,
        "kept": KEPT,
        "refuses": REFUSES,
    }
    row = (await tx.execute(_UNSENT, parameters)).one()
    return None if row.wait_s is None else LeftPending(timedelta(seconds=row.wait_s), row.waits_for_mirror)


async def count_resting(tx: AsyncConnection, connection: str) -> int:
    """Rows that are left alone for a while, since something on the table refuses to have them changed; up to 1000."""
    parameters = {"connection": connection, "kept": KEPT, "refuses": REFUSES, "most": MAX_LOOKED_AT}
    count: int = (await tx.execute(_COUNT_RESTING, parameters)).scalar_one()
    return count


# In seconds: a pooler may tell psycopg of another IntervalStyle than the one that the transaction has set, for as long
# as it remembers what a role or database has no longer.
_COUNT_UNRECONCILED = text("""
SELECT count(*) AS number, CAST(extract(epoch FROM
         coalesce(min(CASE row.status WHEN 'sending' THEN :claims_wait ELSE row.next_attempt_at - now() END),
                  interval '0')) AS float8) AS wait_s
FROM mews.voucher_code_outbox AS row
WHERE row.status IN ('sending', 'uncertain') AND row.connection = :connection
""").bindparams(bindparam("connection", type_=Text), bindparam("claims_wait", type_=Interval))

# Of rows that are due, those which no lock of ours can be had on. One that is locked cannot be assigned either.
_COUNT_LOCKED = text("""
WITH due AS (
  (SELECT row.id FROM mews.voucher_code_outbox AS row
   WHERE row.status = 'pending' AND row.connection = :connection AND row.next_attempt_at <= now()
   LIMIT :most)
UNION ALL
  (SELECT row.id FROM mews.voucher_code_outbox AS row
   LEFT JOIN mews.voucher_codes AS code ON row.voucher_id IS NULL AND code.id = row.voucher_code_id
   JOIN mews.vouchers AS voucher ON voucher.id = coalesce(row.voucher_id, code.voucher_id)
   WHERE row.status = 'pending' AND row.connection IS NULL AND row.next_attempt_at <= now()
     AND voucher.connection = :connection
   LIMIT :most)
), free AS (
  SELECT row.id FROM mews.voucher_code_outbox AS row WHERE row.id IN (SELECT due.id FROM due)
  FOR NO KEY UPDATE SKIP LOCKED
)
SELECT (SELECT count(*) FROM due) - (SELECT count(*) FROM free)
""")

# An attempt that is noted, of a row that is pending, was without effect. And of what was never sent, a claim puts off
# only what the mirror has yet to show. The row in front of another is told by itself, or held, or put off by its user.
_UNSENT = text(f"""
SELECT CAST(extract(epoch FROM min(row.next_attempt_at) - now()) AS float8) AS wait_s,
       coalesce(bool_or(row.attempts = 0 AND row.next_attempt_at > now()), false) AS waits_for_mirror
FROM mews.voucher_code_outbox AS row
WHERE row.status = 'pending' AND row.connection = :connection AND row.id <> ALL (:without)
  AND (row.attempts > 0 OR row.next_attempt_at > now() OR :with_due) AND row.next_attempt_at < :until
  AND (row.not_before IS NULL OR row.not_before <= now())
  AND NOT {RESTS}
  AND NOT EXISTS (
    SELECT FROM mews.voucher_code_outbox AS earlier
    WHERE earlier.voucher_id = row.voucher_id AND earlier.value = row.value AND earlier.id < row.id
      AND earlier.{IS_UNFINISHED}
  )
""").bindparams(  # noqa: S608 - put together of constants
    bindparam("connection", type_=Text),
    bindparam("without", type_=ARRAY(BigInteger)),
    bindparam("with_due", type_=Boolean),
    bindparam("until", type_=TIMESTAMP),
    bindparam("refuses", type_=Text),
    bindparam("kept", type_=Text),
)

_COUNT_RESTING = text(f"""
SELECT count(*) FROM (
  (SELECT FROM mews.voucher_code_outbox AS row
   WHERE row.status = 'pending' AND row.connection = :connection AND {RESTS}
   LIMIT :most)
UNION ALL
  (SELECT FROM mews.voucher_code_outbox AS row
   JOIN mews.vouchers AS voucher ON voucher.id = row.voucher_id
   WHERE row.connection IS NULL AND row.status = 'pending' AND voucher.connection = :connection AND {RESTS}
   LIMIT :most)
) AS resting
""").bindparams(  # noqa: S608 - put together of constants
    bindparam("connection", type_=Text), bindparam("refuses", type_=Text), bindparam("kept", type_=Text)
)
