"""Which rows of a page it is that the database refuses, for a constraint, trigger or index of its users'.

One such row would keep its whole page out, and with it the window. So a refused page is halved until what is refused
stands alone; each part is a transaction of its own, so that also what is checked at the commit is found, and whatever
goes through stands. A page of 1000 takes some 20 transactions for one that is refused, and about 1,100 for 500.

Whatever refuses every row alike is no row's fault: nothing would be mirrored any more, and nobody would be told. A row
of ours, written like the refused one and rolled back, tells the two apart.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Table, any_, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.core.bisection import Bisection
from sync.core.errors import StatementRefused
from sync.postgres.engine import in_transaction

R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

MAX_REWRITTEN = 8
"""Other rows that are written anew, to see whether all are refused. Of those that stand many may break a later rule."""

Trial = Callable[[AsyncConnection], Awaitable[object]]


class Write(Protocol[R_contra]):
    """Writes records within a transaction, and says how many rows that changed."""

    def __call__(self, tx: AsyncConnection, records: Sequence[R_contra]) -> Awaitable[int]: ...


@dataclass(frozen=True, slots=True)
class Target(Generic[R]):
    """Where records go: how they are written, in which row of which table each stands, and others of its like.

    `likes`: records with new ids that differ from one of them, each in something else.
    """

    table: Table
    write: Write[R]
    id_of: Callable[[R], UUID]
    likes: Callable[[R], Sequence[R]] = lambda record: ()


@dataclass(frozen=True, slots=True)
class Sorted(Generic[R]):
    """What went through, in how many rows that was written, and what is refused alone, each with the refusal."""

    stored: list[R]
    written: int
    refused: list[tuple[R, StatementRefused]]


async def write_all(engine: AsyncEngine, target: Target[R], records: Sequence[R]) -> Sorted[R]:
    """Write records, as many as possible; raises as `sort_out` does."""
    if not records:
        return Sorted([], 0, [])
    try:
        written = await in_transaction(engine, partial(target.write, records=records))
        return Sorted(list(records), written, [])
    except StatementRefused as refusal:
        return await sort_out(engine, target, records, refusal)


async def sort_out(
    engine: AsyncEngine, target: Target[R], records: Sequence[R], refusal: StatementRefused
) -> Sorted[R]:
    """Write the records of a page that was refused, without those for which it was.

    Raises `StatementRefused` where it is not for single records, and `DatabaseError` in its variants.
    """
    search = _Search(engine, target, await _standing(engine, target, records))
    if len(records) == 1:
        await search.note_refused(records[0], refusal)
    bisection = Bisection(records, is_refused=True)
    while group := bisection.group:
        bisection.tell(went_through=await search.goes_through(group))
    refused_ids = {target.id_of(record) for record, _ in search.refused}
    stored = [record for record in records if target.id_of(record) not in refused_ids]
    return Sorted(stored, search.written, search.refused)


class _Search(Generic[R]):
    """`standing`: the ids of the records whose rows stand already, so that writing them is an UPDATE."""

    def __init__(self, engine: AsyncEngine, target: Target[R], standing: set[UUID]) -> None:
        self.written = 0
        self.refused: list[tuple[R, StatementRefused]] = []
        self._engine = engine
        self._target = target
        self._standing = standing
        self._takes = {"INSERT": False, "UPDATE": False}

    async def note_refused(self, record: R, refusal: StatementRefused) -> None:
        """Take a record that is refused alone, unless every other one would be."""
        kind = "UPDATE" if self._target.id_of(record) in self._standing else "INSERT"
        if not self._takes[kind]:
            await self._try_others(record, kind, refusal)
            self._takes[kind] = True
        self.refused.append((record, refusal))

    async def goes_through(self, group: Sequence[R]) -> bool:
        try:
            written = await in_transaction(self._engine, partial(self._target.write, records=group))
        except StatementRefused as refusal:
            if len(group) == 1:
                await self.note_refused(group[0], refusal)
            return False
        new = sum(self._target.id_of(record) not in self._standing for record in group)
        self.written += written
        self._takes["INSERT"] |= new > 0
        self._takes["UPDATE"] |= written > new
        return True

    async def _try_others(self, record: R, kind: str, refusal: StatementRefused) -> None:
        """Raise the refusal where rows that have nothing in common with the refused one are refused alike."""
        trials = [
            self._rewriting_another_than(record, among)
            for _ in range(MAX_REWRITTEN // 2)
            for among in (self._standing, {self._target.id_of(record)})
        ]
        if kind == "INSERT":
            trials = [partial(self._target.write, records=[like]) for like in self._target.likes(record)]
        for trial in trials:
            try:
                await _roll_back(self._engine, trial)
            except StatementRefused as other:
                if (other.sqlstate, other.words) == (refusal.sqlstate, refusal.words):
                    continue
            return
        if not trials:
            return
        raise StatementRefused(
            f"the database refuses every {kind} of {self._target.table.fullname} ({refusal.sqlstate}): "
            f"{refusal.words}; mend or drop what refuses it, then it works again",
            refusal.sqlstate,
            refusal.words,
        )

    def _rewriting_another_than(self, record: R, excluded: set[UUID]) -> Trial:
        """Writes any row anew that is not excluded, or else any other than this record's."""
        table = self._target.table
        # The first behind a made-up id is any: which one comes first in the table may have to do with what is refused.
        found = [
            select(table.c.id)
            .where(~_is_among(table.c.id, ids), *behind)
            .order_by(table.c.id)
            .limit(1)
            .scalar_subquery()
            for ids in (excluded, {self._target.id_of(record)})
            for behind in ([table.c.id > uuid4()], [])
        ]
        rewritten = update(table).where(table.c.id == func.coalesce(*found)).values(mirrored_at=func.now())

        async def write(tx: AsyncConnection) -> object:
            return await tx.execute(rewritten)

        return write


class _Undone(Exception):
    """Takes a trial back."""


async def _roll_back(engine: AsyncEngine, trial: Trial) -> None:
    async def undone(tx: AsyncConnection) -> None:
        await trial(tx)
        await tx.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
        raise _Undone

    with suppress(_Undone):
        await in_transaction(engine, undone)


async def _standing(engine: AsyncEngine, target: Target[R], records: Sequence[R]) -> set[UUID]:
    id_ = target.table.c.id
    standing = select(id_).where(_is_among(id_, {target.id_of(record) for record in records}))

    async def find(tx: AsyncConnection) -> set[UUID]:
        return set((await tx.execute(standing)).scalars())

    return await in_transaction(engine, find)


def _is_among(id_: ColumnElement[UUID], ids: Collection[UUID]) -> ColumnElement[bool]:
    return id_ == any_(literal(list(ids), ARRAY(UUID_TYPE)))
