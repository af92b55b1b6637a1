"""Rows that wait until another is done, which their `after_id` names.

While it waits, such a row is put off beyond all time, so that a look at what is due passes a million of them. It is
found again from the row that it waits for, as that one ends, and by a look at some of them each time that the outbox is
looked at: so it is too where a user ended or retried the first, or holds the follower in a transaction.
"""

from collections.abc import Iterable, Sequence
from functools import partial

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Text,
    any_,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.each_row import IDS, write_each, write_rows
from sync.outbox.rules import Follower, Go, PutOff, Status, TakeBack, resolve_follower
from sync.outbox.tables import PUT_OFF_UNTIL, is_fulfilled, outbox
from sync.postgres.metadata import TIMESTAMP

MAX_LOOKED_AT = 5000

Reached = tuple[int, int]
"""A follower's `after_id` and `id`, in whose order they are looked at."""


async def move_followers(tx: AsyncConnection, first_ids: Iterable[int]) -> None:
    """Have the rows that wait for these go, wait or be cancelled, by how these stand; not those that others hold."""
    of_firsts = outbox.c.after_id == any_(literal(list(first_ids), ARRAY(BigInteger)))
    await _move(tx, await _load(tx, of_firsts))


async def move_some(tx: AsyncConnection, after: Reached | None) -> Reached | None:
    """The same for some of all that wait, from behind `after` on; where to go on, None at the end of them."""
    place = tuple_(outbox.c.after_id, outbox.c.id)
    found = await _load(tx, place > after if after else outbox.c.id > 0, limit=MAX_LOOKED_AT)
    await _move(tx, found)
    return (found[-1].after_id, found[-1].id) if len(found) == MAX_LOOKED_AT else None


async def _load(tx: AsyncConnection, condition: ColumnElement[bool], limit: int | None = None) -> list[Follower]:
    first = outbox.alias("first")
    statement = (
        select(
            outbox.c.id,
            outbox.c.after_id,
            first.c.status.label("first_status"),
            is_fulfilled(first).label("is_fulfilled"),
            (outbox.c.next_attempt_at >= PUT_OFF_UNTIL).label("is_put_off"),
            outbox.c.last_error,
        )
        .join(first, first.c.id == outbox.c.after_id)
        .where(outbox.c.after_id.is_not(None), func.right(outbox.c.status, 7) == literal_column("'pending'"), condition)
        .order_by(outbox.c.after_id, outbox.c.id)
        .limit(limit)
    )
    rows = (await tx.execute(statement)).mappings()
    return [Follower(**{**row, "first_status": Status(row["first_status"])}) for row in rows]


async def _move(tx: AsyncConnection, rows: Sequence[Follower]) -> None:
    decided = {row.id: decision for row in rows if (decision := resolve_follower(row))}
    if not decided:
        return
    free = (await tx.execute(_LOCK, {"ids": list(decided)})).scalars().all()
    go = [row_id for row_id in free if isinstance(decided[row_id], Go)]
    await write_each(tx, go, partial(write_rows, tx, _GO))
    for kind, statement in ((PutOff, _PUT_OFF), (TakeBack, _CANCEL)):
        told = {row_id: one.reason for row_id in free if isinstance(one := decided[row_id], kind)}
        parameters = {"told_ids": list(told), "reasons": list(told.values())}
        await write_each(tx, list(told), partial(write_rows, tx, statement, **parameters))


_LOCK = text("""
SELECT id FROM mews.voucher_code_outbox WHERE id = ANY (:ids) AND status = 'pending'
FOR NO KEY UPDATE SKIP LOCKED
""").bindparams(IDS)

_GO = text("""
UPDATE mews.voucher_code_outbox SET next_attempt_at = greatest(now(), not_before), last_error = NULL
WHERE id = ANY (:ids) RETURNING id
""").bindparams(IDS)

_TOLD = (bindparam("told_ids", type_=ARRAY(BigInteger)), bindparam("reasons", type_=ARRAY(Text)))
_PUT_OFF = text("""
UPDATE mews.voucher_code_outbox AS row SET next_attempt_at = :until, last_error = told.reason
FROM unnest(:told_ids, :reasons) AS told(id, reason) WHERE row.id = ANY (:ids) AND told.id = row.id RETURNING row.id
""").bindparams(IDS, *_TOLD, bindparam("until", PUT_OFF_UNTIL, type_=TIMESTAMP))

_CANCEL = text("""
UPDATE mews.voucher_code_outbox AS row SET status = 'cancelled', finished_at = now(), last_error = told.reason
FROM unnest(:told_ids, :reasons) AS told(id, reason) WHERE row.id = ANY (:ids) AND told.id = row.id RETURNING row.id
""").bindparams(IDS, *_TOLD)
