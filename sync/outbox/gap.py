"""What was queued before a gap: held, and looked up when somebody adopts the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import uuid4

from sqlalchemy import BigInteger, Text, bindparam, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.incarnation import Known
from sync.outbox import claims, lookups
from sync.outbox.completion import complete
from sync.outbox.each_row import IDS, Written, write_each, write_rows
from sync.outbox.outcomes import resolve_unsent
from sync.outbox.rules import Decision, Operation, Row, Stands, Status
from sync.outbox.tables import outbox
from sync.postgres.metadata import TIMESTAMP

HELD_FOR_GAP = "held, since the database was restored or has lost commits: "
REASON = f"{HELD_FOR_GAP}it may be done or cancelled already; `voucher-sync adopt` looks it up"
"""`last_error` of what a gap holds; by its beginning such rows are told from deletes that the guard holds."""


@dataclass(frozen=True, slots=True)
class Left:
    """Rows that a gap holds, by operation."""

    adds: int
    deletes: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.adds + self.deletes


async def hold_before_gap(tx: AsyncConnection, known: Known) -> Written:
    """Hold what is pending and was queued before the gap, but for what somebody has released since."""
    if not known.gap:
        return Written()
    parameters = {"through": known.gap_through, "since": known.gap_at}
    row_ids = (await tx.execute(_TO_HOLD, parameters)).scalars().all()
    return await write_each(tx, row_ids, partial(write_rows, tx, _HOLD, reason=REASON))


async def held_rows(tx: AsyncConnection, after: int, limit: int) -> list[Row]:
    """Rows that a gap holds, by number, from the first after `after` on; locked, but for what others hold."""
    statement = (
        select(*(outbox.c[name] for name in Row.__slots__))
        .where(outbox.c.status == Status.HELD, outbox.c.last_error.startswith(HELD_FOR_GAP), outbox.c.id > after)
        .order_by(outbox.c.id)
        .limit(limit)
        .with_for_update(key_share=True, skip_locked=True)
    )
    found = (await tx.execute(statement)).mappings()
    return [Row(**{**row, "operation": Operation(row["operation"])}) for row in found]


async def count_held(tx: AsyncConnection) -> Left:
    """How many rows a gap holds still."""
    of_gap = (outbox.c.status == Status.HELD, outbox.c.last_error.startswith(HELD_FOR_GAP))
    adds, deletes = (
        func.count().filter(outbox.c.operation == operation) for operation in (Operation.ADD, Operation.DELETE)
    )
    return Left(*(await tx.execute(select(adds, deletes).where(*of_gap))).one())


async def complete_standing(tx: AsyncConnection, rows: Sequence[Row], server_utc: datetime) -> int:
    """Make those rows `done` that stand in the mirror, which has just been read; how many.

    An add stands where the API has made its code since it was queued; a delete where its code is known as deleted.
    """
    adds = [row for row in rows if row.operation is Operation.ADD]
    deletes = [row for row in rows if row.operation is Operation.DELETE]
    stands = await lookups.made_since_queued(tx, [row.id for row in adds], server_utc)
    for row_id, (active, deleted) in (await lookups.named_by(tx, deletes)).items() if deletes else ():
        if deleted and not active:
            stands[row_id] = deleted[0]
    attempt_id = uuid4()
    await release(tx, list(stands))
    claimed = await claims.claim_unsent(tx, attempt_id, list(stands))
    decisions: dict[int, Decision] = {row_id: Stands(code_id) for row_id, code_id in stands.items()}
    standing = [row for row in rows if row.id in claimed.ids]
    return (await complete(tx, attempt_id, resolve_unsent(standing, decisions))).counts[Status.DONE]


async def release(tx: AsyncConnection, row_ids: Sequence[int]) -> Written:
    """Have held rows sent after all."""
    return await write_each(tx, row_ids, partial(write_rows, tx, _RELEASE))


async def cancel(tx: AsyncConnection, row_ids: Sequence[int]) -> Written:
    """Take held rows back."""
    return await write_each(tx, row_ids, partial(write_rows, tx, _CANCEL))


_TO_HOLD = text("""
SELECT id FROM mews.voucher_code_outbox
WHERE status = 'pending' AND id <= :through AND (released_at IS NULL OR released_at < :since)
ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
""").bindparams(bindparam("through", type_=BigInteger), bindparam("since", type_=TIMESTAMP))

_HOLD = text("""
UPDATE mews.voucher_code_outbox SET status = 'held', last_error = :reason WHERE id = ANY (:ids) RETURNING id
""").bindparams(IDS, bindparam("reason", type_=Text))

_RELEASE = text("""
UPDATE mews.voucher_code_outbox
SET status = 'pending', released_at = clock_timestamp(), last_error = NULL,
    next_attempt_at = greatest(now(), not_before)
WHERE id = ANY (:ids) AND status = 'held' RETURNING id
""").bindparams(IDS)

_CANCEL = text("""
UPDATE mews.voucher_code_outbox
SET status = 'cancelled', finished_at = now(), last_error = 'cancelled when the database was adopted'
WHERE id = ANY (:ids) AND status = 'held' RETURNING id
""").bindparams(IDS)
