"""Moving rows of the outbox as users may."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    and_,
    any_,
    exists,
    func,
    literal,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.errors import StatementRefused
from sync.outbox.each_row import KEPT, write_each
from sync.outbox.rules import Operation, Status
from sync.outbox.tables import UNFINISHED, outbox
from sync.postgres.engine import translate

MAX_NAMED = 100
"""So many of the rows that could not be moved are named."""
ADVICE = "mend that, and move it again"


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
    """Move the rows with these numbers, as far as they may be.

    One that a constraint or trigger of somebody's refuses, at the commit too, keeps no other back. Raises
    `StatementRefused` where it seems to refuse them all.
    """
    await tx.execute(_CHECKED_AT_ONCE)

    async def write(group: Sequence[int]) -> Iterable[int]:
        statement = _update(move, _is_one_of(outbox, group), _is_one_of(_OTHER, group))
        return (await tx.execute(statement.returning(outbox.c.id))).scalars()

    written = await write_each(tx, ids, write, most_in_vain=MAX_NAMED, advice=ADVICE)
    others = [one for one in ids if one not in written.ids]
    reasons = await _reasons(tx, move, [one for one in others if one not in written.refused])
    refused = {row_id: f"stays: {why}" for row_id, why in written.refused.items()}
    return Moved(len(written.ids), dict.fromkeys(others, "is not in the outbox") | reasons | refused)


async def move_all(tx: AsyncConnection, move: Move, voucher_id: UUID | None) -> Moved:
    """Move every row that may be, of one voucher or of all."""
    conditions = [] if voucher_id is None else [outbox.c.voucher_id == voucher_id]
    others = [] if voucher_id is None else [_OTHER.c.voucher_id == voucher_id]
    await tx.execute(_CHECKED_AT_ONCE)
    try:
        async with tx.begin_nested():
            moving = _counting(_update(move, and_(true(), *conditions), and_(true(), *others)))
            count, kept = (await tx.execute(moving)).one()
    except DBAPIError as error:
        if not isinstance(translate(error), StatementRefused):
            raise
        movable = select(outbox.c.id).where(*conditions, outbox.c.status.in_(move.sources)).order_by(outbox.c.id)
        if Status.FAILED in move.sources:
            movable = movable.where(outbox.c.erased_at.is_(None))
        return await move_rows(tx, move, (await tx.execute(movable)).scalars().all())
    if move.target is not Status.PENDING:
        return Moved(count, await _reasons(tx, move, kept))
    left = select(outbox.c.id).where(*conditions, outbox.c.status.in_(move.sources), _is_queued_elsewhere())
    ids = (await tx.execute(left.order_by(outbox.c.id).limit(MAX_NAMED))).scalars().all()
    return Moved(count, await _reasons(tx, move, sorted({*ids, *kept})))


# What users have put off to the commit (`DEFERRABLE`) would refuse all rows there. It ends with the transaction.
_CHECKED_AT_ONCE = text("SET CONSTRAINTS ALL IMMEDIATE")

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


def _counting(moving: Any) -> Any:
    """How many rows a statement moves, and the first of those that a trigger or policy keeps from it without a word."""
    movable = select(outbox.c.id).where(moving.whereclause).cte("movable")
    moved = moving.returning(outbox.c.id).cte("moved")
    # By NOT IN, what does not fit in work_mem would be read anew for each of a million rows.
    left = select(movable.c.id).except_(select(moved.c.id)).subquery()
    kept = select(left.c.id).order_by(left.c.id).limit(MAX_NAMED)
    count = select(func.count()).select_from(moved).scalar_subquery()
    return select(count, func.array(kept.scalar_subquery(), type_=ARRAY(BigInteger)))


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
        if row.same
        else f"stays: {KEPT}"
        for row in await tx.execute(query)
    }
