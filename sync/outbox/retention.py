"""Old rows of the outbox: deleted some time after they were finished."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from sqlalchemy import (
    Interval,
    bindparam,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.errors import StatementRefused
from sync.outbox.each_row import IDS, write_each, write_rows
from sync.postgres.engine import translate
from sync.postgres.metadata import TIMESTAMP

MAX_PRUNED = 10_000
MAX_PRUNED_EACH = 500
"""Of rows some of which must stay, each of those takes a statement or two; more would keep the transaction for long."""


BEFORE_ALL = (datetime(1, 1, 1, tzinfo=UTC), 0)


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows are gone, and where the next look for old ones goes on: None is at the oldest."""

    count: int
    reached: tuple[datetime, int] | None


async def prune(tx: AsyncConnection, keep: timedelta, after: tuple[datetime, int] | None = None) -> Pruned:
    """Delete rows that were finished longer ago than `keep`, some at a time, from behind `after` on.

    What must stay, as by a foreign key of a user's, is passed, or those behind it would stay with it; a row that others
    are to follow stays as long as they do.
    """
    finished_at, row_id = after or BEFORE_ALL
    where = {"keep": keep, "finished_at": finished_at, "id": row_id}
    old = (await tx.execute(_LOCK_OLD, where | {"limit": MAX_PRUNED})).all()
    try:
        async with tx.begin_nested():
            gone = len(list(await write_rows(tx, _PRUNE, [row.id for row in old])))
    except DBAPIError as error:
        if not isinstance(translate(error), StatementRefused):
            raise
        old = old[:MAX_PRUNED_EACH]
        gone = len((await write_each(tx, [row.id for row in old], partial(write_rows, tx, _PRUNE))).ids)
        return Pruned(gone, (old[-1].finished_at, old[-1].id))
    return Pruned(gone, (old[-1].finished_at, old[-1].id) if len(old) == MAX_PRUNED else None)


_LOCK_OLD = text("""
SELECT id, finished_at FROM mews.voucher_code_outbox AS row
WHERE finished_at < now() - :keep AND (finished_at, id) > (:finished_at, :id)
  AND NOT EXISTS (SELECT FROM mews.voucher_code_outbox AS follower WHERE follower.after_id = row.id)
ORDER BY finished_at, id LIMIT :limit
FOR UPDATE SKIP LOCKED
""").bindparams(bindparam("keep", type_=Interval), bindparam("finished_at", type_=TIMESTAMP))

_PRUNE = text("DELETE FROM mews.voucher_code_outbox WHERE id = ANY (:ids) RETURNING id").bindparams(IDS)
