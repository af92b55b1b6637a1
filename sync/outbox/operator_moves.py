"""Moving rows of the outbox as users may."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, and_, any_, exists, func, literal, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.rules import Operation, Status
from sync.outbox.tables import UNFINISHED, outbox

MAX_NAMED = 100
"""So many of the rows that could not be moved are named."""


@dataclass(frozen=True, slots=True)
class Move:
    """A move that users make: from some states to another."""

    sources: tuple[Status, ...]
    target: Status


RETRY = Move((Status.FAILED,), Status.PENDING)
CANCEL = Move((Status.PENDING, Status.HELD), Status.CANCELLED)
RELEASE = Move((Status.HELD,), Status.PENDING)


@dataclass(frozen=True, slots=True)
class Moved:
    """How many rows were moved, and which of the others, by number, were not, with the reason."""

    count: int
    unmoved: dict[int, str]


async def move_rows(tx: AsyncConnection, move: Move, ids: Sequence[int]) -> Moved:
    """Move the rows with these numbers, as far as they may be."""
    selected = _is_one_of(outbox, ids)
    moved = set((await tx.execute(_update(move, selected, _is_one_of(_OTHER, ids)).returning(outbox.c.id))).scalars())
    others = [one for one in ids if one not in moved]
    return Moved(len(moved), dict.fromkeys(others, "is not in the outbox") | await _reasons(tx, move, others))


async def move_all(tx: AsyncConnection, move: Move, voucher_id: UUID | None) -> Moved:
    """Move every row that may be, of one voucher or of all."""
    conditions = [] if voucher_id is None else [outbox.c.voucher_id == voucher_id]
    others = [] if voucher_id is None else [_OTHER.c.voucher_id == voucher_id]
    count = (await tx.execute(_update(move, and_(true(), *conditions), and_(true(), *others)))).rowcount
    if move.target is not Status.PENDING:
        return Moved(count, {})
    left = select(outbox.c.id).where(*conditions, outbox.c.status.in_(move.sources), _is_queued_elsewhere())
    ids = (await tx.execute(left.order_by(outbox.c.id).limit(MAX_NAMED))).scalars().all()
    return Moved(count, await _reasons(tx, move, ids))


_OTHER = outbox.alias("other")
_OTHER_ADD = and_(
    outbox.c.operation == Operation.ADD,
    _OTHER.c.operation == Operation.ADD,
    _OTHER.c.voucher_id == outbox.c.voucher_id,
    _OTHER.c.id != outbox.c.id,
)
_SAME_ADD = and_(_OTHER_ADD, _OTHER.c.value == outbox.c.value)
# As the unique index of these compares: otherwise all adds of the voucher would be read for each row.
_SAME_QUEUED_ADD = and_(_OTHER_ADD, _OTHER.c.value.collate("C") == outbox.c.value, _OTHER.c.status.in_(UNFINISHED))


def _is_one_of(table: Any, ids: Sequence[int]) -> ColumnElement[bool]:
    condition: ColumnElement[bool] = table.c.id == any_(literal(list(ids), ARRAY(BigInteger)))
    return condition


def _is_queued_elsewhere() -> ColumnElement[bool]:
    return exists().where(_SAME_QUEUED_ADD)


def _update(move: Move, selected: ColumnElement[bool], other_selected: ColumnElement[bool]) -> Any:
    """One statement; what a rule of the database forbids is left out, since it would fail the whole of it."""
    statement = update(outbox).where(selected, outbox.c.status.in_(move.sources)).values(status=move.target)
    if Status.FAILED not in move.sources:
        return statement
    # What was erased has no code to send. An add that failed twice is retried once.
    goes_before = exists().where(_SAME_ADD, _OTHER.c.status == Status.FAILED, _OTHER.c.id < outbox.c.id, other_selected)
    return statement.where(outbox.c.erased_at.is_(None), ~_is_queued_elsewhere(), ~goes_before)


async def _reasons(tx: AsyncConnection, move: Move, ids: Sequence[int]) -> dict[int, str]:
    same = select(func.min(_OTHER.c.id)).where(_SAME_QUEUED_ADD).scalar_subquery()
    columns = (outbox.c.id, outbox.c.status, outbox.c.erased_at, same.label("same"))
    query = select(*columns).where(_is_one_of(outbox, ids))
    only = " or ".join(move.sources)
    return {
        row.id: f"is {row.status}, and this is for rows that are {only}"
        if row.status not in move.sources
        else "had its code erased: queue the change again"
        if row.erased_at
        else f"asks for the same add as row {row.same}, which is queued already"
        for row in await tx.execute(query)
    }
