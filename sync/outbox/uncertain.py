"""Rows of which it is not known what became of them: loaded to be looked up, and counted."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    FromClause,
    Interval,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.rules import Operation, Status, Uncertain, Uncertainty
from sync.outbox.tables import attempts, outbox

MAX_UNCERTAIN = 5000


async def load_uncertain(
    tx: AsyncConnection, connection: str, without: Iterable[int] = (), *, with_orphans: bool = True
) -> list[Uncertain]:
    """Rows that are due to be looked up, the longest due first, except for those in `without`.

    `with_orphans`: also rows of attempts that are not there, for which all that was ever sent is passed.
    """
    due = select(*(outbox.c[name] for name in Uncertain.__slots__), outbox.c.next_attempt_at).where(
        outbox.c.status == Status.UNCERTAIN,
        outbox.c.connection == connection,
        outbox.c.next_attempt_at <= func.now(),
        ~(outbox.c.id == any_(literal(list(without), ARRAY(BigInteger)))),
    )
    found: FromClause = due.subquery() if with_orphans else _by_attempts(due)
    statement = select(*(found.c[name] for name in Uncertain.__slots__))
    if not with_orphans:
        statement = statement.select_from(attempts.join(found, true())).where(attempts.c.connection == connection)
    statement = statement.order_by(found.c.next_attempt_at, found.c.id).limit(MAX_UNCERTAIN)
    rows = (await tx.execute(statement)).mappings()
    typed = {"operation": Operation, "uncertain_because": Uncertainty}
    return [Uncertain(**{**row, **{name: kind(row[name]) for name, kind in typed.items()}}) for row in rows]


def _by_attempts(rows: Select[Any]) -> FromClause:
    """Each attempt's rows, looked up for it by OFFSET: whatever was sent before may lie in the index still."""
    return rows.where(outbox.c.attempt_id == attempts.c.id).correlate(attempts).offset(0).lateral()


async def lock_free(tx: AsyncConnection, row_ids: Sequence[int]) -> list[int]:
    """Lock rows for this transaction; those of them that nobody else holds."""
    free = select(outbox.c.id).where(outbox.c.id.in_(row_ids)).with_for_update(key_share=True, skip_locked=True)
    return list((await tx.execute(free)).scalars())


async def count_unreconciled(tx: AsyncConnection, connection: str, claims_wait: timedelta) -> tuple[int, timedelta]:
    """Rows that were sent and of which nothing is known yet, and how long until the first is due to be looked up.

    `claims_wait`: how long until the first claim may be over.
    """
    row = (await tx.execute(_COUNT_UNRECONCILED, {"connection": connection, "claims_wait": claims_wait})).one()
    return row.number, timedelta(seconds=row.wait_s)


async def has_backlog(tx: AsyncConnection, connection: str) -> bool:
    """Whether anything is due, or was sent and is not finished."""
    is_waiting = and_(
        outbox.c.status == Status.PENDING, or_(outbox.c.attempts > 0, outbox.c.next_attempt_at <= func.now())
    )
    is_unreconciled = outbox.c.status.in_([Status.SENDING, Status.UNCERTAIN])
    backlog = exists().where(outbox.c.connection == connection, or_(is_waiting, is_unreconciled))
    return bool((await tx.execute(select(backlog))).scalar_one())


# In seconds: a pooler may tell psycopg of another IntervalStyle than the one that the transaction has set, for as long
# as it remembers what a role or database has no longer.
_COUNT_UNRECONCILED = text("""
SELECT count(*) AS number, CAST(extract(epoch FROM
         coalesce(min(CASE row.status WHEN 'sending' THEN :claims_wait ELSE row.next_attempt_at - now() END),
                  interval '0')) AS float8) AS wait_s
FROM mews.voucher_code_outbox AS row
WHERE row.status IN ('sending', 'uncertain') AND row.connection = :connection
""").bindparams(bindparam("connection", type_=Text), bindparam("claims_wait", type_=Interval))
