"""Rows that wait until another is done, which their `after_id` names.

While it waits, such a row is put off beyond all time, so that a look at what is due passes a million of them. It is
found again from the row that it waits for, as that one ends, and by a look at some of them each time that the outbox is
looked at: so it is too where a user ended or retried the first, or holds the follower in a transaction.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from sqlalchemy import BigInteger, Text, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.each_row import IDS, write_each, write_rows
from sync.outbox.rules import Follower, Go, PutOff, Status, TakeBack, resolve_follower
from sync.outbox.tables import PUT_OFF_UNTIL
from sync.postgres.metadata import TIMESTAMP

MAX_LOOKED_AT = 1000

Reached = tuple[int, int]
"""A follower's `after_id` and `id`, in whose order they are looked at."""
BEFORE_ALL: Reached = (0, 0)


async def move_followers(tx: AsyncConnection, first_ids: Collection[int]) -> None:
    """Have the rows that wait for these go, wait or be cancelled, by how these stand; not those that others hold."""
    if first_ids and await _has_any(tx):
        await _move(tx, await _load(tx, _BEHIND, first_ids=list(first_ids)))


async def move_some(tx: AsyncConnection, after: Reached | None) -> Reached | None:
    """The same for some of all that wait, from behind `after` on; where to go on, None at the end of them."""
    if not await _has_any(tx):
        return None
    after_id, row_id = after or BEFORE_ALL
    found = await _load(tx, _NEXT, after_id=after_id, id=row_id, most=MAX_LOOKED_AT)
    await _move(tx, found)
    return (found[-1].after_id, found[-1].id) if len(found) == MAX_LOOKED_AT else None


async def _has_any(tx: AsyncConnection) -> bool:
    return (await tx.execute(_ANY)).first() is not None


async def _load(tx: AsyncConnection, statement: TextClause, **parameters: Any) -> list[Follower]:
    # By statistics of an outbox that was empty, to sort the whole of it seems as cheap as the index.
    before = (await tx.execute(_UNSORTED)).scalar_one()
    rows = (await tx.execute(statement, {"until": PUT_OFF_UNTIL, **parameters})).mappings().all()
    await tx.execute(_AS_BEFORE, {"before": before})
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


_UNSORTED = text("SELECT current_setting('enable_sort') AS before, set_config('enable_sort', 'off', true)")
_AS_BEFORE = text("SELECT set_config('enable_sort', :before, true)")

# The order has it read the first of the index, and the condition is no other index's, whatever there is of statistics.
_ANY = text("""
SELECT row.id FROM mews.voucher_code_outbox AS row WHERE right(row.status, 7) = 'pending' AND row.after_id IS NOT NULL
ORDER BY row.after_id LIMIT 1
""")

# By OFFSET each stays a look-up for each row.
_FOLLOWERS = """
SELECT row.id, row.after_id, first.status AS first_status, row.last_error,
       first.status = 'done' OR first.took_back_id IS NOT NULL AS is_fulfilled,
       row.next_attempt_at >= :until AS is_put_off
FROM {waiting} AS row CROSS JOIN LATERAL (
  SELECT one.status, one.took_back_id FROM mews.voucher_code_outbox AS one WHERE one.id = row.after_id OFFSET 0
) AS first
ORDER BY row.after_id, row.id
"""
_OF_ENDED = """
pg_catalog.unnest(:first_ids) AS ended(id) CROSS JOIN LATERAL (
  SELECT waiting.* FROM mews.voucher_code_outbox AS waiting
  WHERE waiting.after_id = ended.id AND right(waiting.status, 7) = 'pending' AND waiting.after_id IS NOT NULL OFFSET 0
)
"""
_FROM_PLACE_ON = """(
  SELECT waiting.* FROM mews.voucher_code_outbox AS waiting
  WHERE (waiting.after_id, waiting.id) > (:after_id, :id)
    AND right(waiting.status, 7) = 'pending' AND waiting.after_id IS NOT NULL
  ORDER BY waiting.after_id, waiting.id LIMIT :most
)"""
_UNTIL = bindparam("until", type_=TIMESTAMP)
_BEHIND = text(_FOLLOWERS.format(waiting=_OF_ENDED)).bindparams(bindparam("first_ids", type_=ARRAY(BigInteger)), _UNTIL)
_NEXT = text(_FOLLOWERS.format(waiting=_FROM_PLACE_ON)).bindparams(_UNTIL)

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
