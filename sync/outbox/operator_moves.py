"""Looking into the outbox, and moving its rows as users may."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, and_, any_, exists, func, literal, select, true, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.rules import Operation, Status
from sync.outbox.tables import outbox, outbox_attempts

UNFINISHED = (Status.PENDING, Status.SENDING, Status.UNCERTAIN, Status.HELD)
_RECKONING = ("first_sent_at", "uncertain_because", "blocked_alone", "singled_out")
_SHOWN = [column for column in outbox.c if column.name not in _RECKONING]
"""What the daemon reckons with is no part of what these commands tell, which others parse."""
MAX_NAMED = 100
"""So many of the rows that could not be moved are named."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are listed; None and empty stand for all."""

    statuses: Sequence[Status] = ()
    operation: Operation | None = None
    voucher_id: UUID | None = None

    def conditions(self, *, with_status: bool) -> list[ColumnElement[bool]]:
        """What such rows fulfil."""
        found: list[ColumnElement[bool]] = []
        if self.statuses and with_status:
            found.append(outbox.c.status.in_(self.statuses))
        if self.operation:
            found.append(outbox.c.operation == self.operation)
        if self.voucher_id:
            found.append(outbox.c.voucher_id == self.voucher_id)
        return found


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


async def newest(tx: AsyncConnection, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """Rows of the outbox, the newest first."""
    query = select(*_SHOWN).where(*wanted.conditions(with_status=True)).order_by(outbox.c.id.desc()).limit(limit)
    return [dict(row) for row in (await tx.execute(query)).mappings()]


async def counts(tx: AsyncConnection, wanted: Wanted) -> dict[Status, int]:
    """How many rows there are of each status, whichever statuses are wanted."""
    conditions = wanted.conditions(with_status=False)
    query = select(outbox.c.status, func.count().label("number")).where(*conditions).group_by(outbox.c.status)
    found = {row.status: row.number for row in await tx.execute(query)}
    return {status: found[status] for status in Status if status in found}


async def row_with_attempts(tx: AsyncConnection, row_id: int) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """A row and its attempts, the first one first; None if there is no such row."""
    row = (await tx.execute(select(*_SHOWN).where(outbox.c.id == row_id))).mappings().one_or_none()
    if row is None:
        return None
    of_row = select(outbox_attempts).where(outbox_attempts.c.outbox_id == row_id)
    tries = await tx.execute(of_row.order_by(outbox_attempts.c.sent_at, outbox_attempts.c.settled_at))
    return dict(row), [dict(one) for one in tries.mappings()]


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
    # An add that failed twice is retried once.
    goes_before = exists().where(_SAME_ADD, _OTHER.c.status == Status.FAILED, _OTHER.c.id < outbox.c.id, other_selected)
    return statement.where(~_is_queued_elsewhere(), ~goes_before)


async def _reasons(tx: AsyncConnection, move: Move, ids: Sequence[int]) -> dict[int, str]:
    same = select(func.min(_OTHER.c.id)).where(_SAME_QUEUED_ADD).scalar_subquery()
    query = select(outbox.c.id, outbox.c.status, same.label("same")).where(_is_one_of(outbox, ids))
    only = " or ".join(move.sources)
    return {
        row.id: f"is {row.status}, and this is for {only} rows"
        if row.status not in move.sources
        else f"asks for the same add as row {row.same}, which is queued already"
        for row in await tx.execute(query)
    }
