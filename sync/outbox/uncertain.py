"""Rows of which it is not known what became of them: loaded to be looked up, and counted."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    any_,
    case,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.rules import Operation, Status, Uncertain, Uncertainty
from sync.outbox.tables import attempts, outbox, outbox_attempts

MAX_UNCERTAIN = 5000

NOT_SHOWN = (
    "it is unknown whether this was done, and the API does not show its voucher, so it is looked up every 5 minutes: "
    "ask for access to the voucher again"
)


async def load_uncertain(
    tx: AsyncConnection, connection: str, without: Iterable[int] = (), *, with_orphans: bool = True
) -> list[Uncertain]:
    """Rows that are due to be looked up, the longest due first, except for those in `without`.

    `with_orphans`: also rows of attempts that are not there, for which all that was ever sent is read.
    """
    columns: dict[str, ColumnElement[Any]] = {name: outbox.c[name] for name in Uncertain.__slots__}
    # What somebody has put in past the triggers may say nothing of when it was sent.
    since = func.coalesce(outbox.c.unknown_since_utc, outbox.c.first_sent_utc, outbox.c.created_at)
    columns["unknown_since_utc"] = since.label("unknown_since_utc")
    columns["last_error"] = _words().label("last_error")
    due = select(*columns.values(), outbox.c.next_attempt_at).where(
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


def _words() -> ColumnElement[Any]:
    """What was answered, also where the row says by now that its voucher is hidden: it may fail with these words."""
    of_attempt = (outbox_attempts.c.outbox_id == outbox.c.id, outbox_attempts.c.attempt_id == outbox.c.attempt_id)
    answered = select(outbox_attempts.c.message).where(*of_attempt).scalar_subquery()
    return case((outbox.c.last_error == NOT_SHOWN, answered), else_=outbox.c.last_error)


def _by_attempts(rows: Select[Any]) -> FromClause:
    """Each attempt's rows, looked up for it by OFFSET: whatever was sent before may lie in the index still."""
    return rows.where(outbox.c.attempt_id == attempts.c.id).correlate(attempts).offset(0).lateral()


async def lock_free(tx: AsyncConnection, row_ids: Sequence[int]) -> list[int]:
    """Lock rows for this transaction; those of them that nobody else holds."""
    free = select(outbox.c.id).where(outbox.c.id.in_(row_ids)).with_for_update(key_share=True, skip_locked=True)
    return list((await tx.execute(free)).scalars())
