"""Writing rows of the outbox of which something that a user put on the table may refuse single ones.

A constraint, an index or a trigger can refuse a row whatever becomes of it, and would refuse its whole statement with
it. So a refused statement is divided, each part behind a savepoint, until what is refused stands alone; the others go
on. A savepoint costs two trips to the database, and hardly ever is anything refused: where that counts, `at_once` does
without, and divides in another transaction only.

What is not written is never taken for written: a trigger or a policy may also leave a row out without a word.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import BigInteger, TextClause, bindparam
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.set_aside import SET_ASIDE_FOR
from sync.core.bisection import Bisection
from sync.core.errors import StatementRefused
from sync.postgres.engine import Opened, in_transaction, translate

R = TypeVar("R")
_IS_UNDIVIDED = "writes_rows_undivided"
KEPT = "something on the table of the outbox keeps this row as it is, without a word: look for triggers and policies"

REFUSES = "something on the table of the outbox refuses to have this row changed"
RESTS = "(starts_with(row.last_error, :refuses) OR row.last_error = :kept) IS TRUE"
"""Whether a `row` is left alone for a while, for one of these two reasons."""
ADVICE = f"once that is mended it goes on by itself, within {SET_ASIDE_FOR.total_seconds() / 60:.0f} minutes"

Write = Callable[[Sequence[int]], Awaitable[Iterable[int]]]
"""Writes rows, and says which of them it wrote."""


@dataclass(frozen=True, slots=True)
class Written:
    """The rows that were written, and of the others those that are refused, each with the reason, without a value."""

    ids: set[int] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)

    def unwritten(self, row_ids: Iterable[int]) -> dict[int, str]:
        """Why those of these rows were not written that were not, also where nothing says so."""
        return dict.fromkeys({*row_ids} - self.ids, KEPT) | self.refused


async def at_once(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[R]], opened: Opened) -> R:
    """What `work` returns, from a transaction without savepoints; where a row is refused, from one with them.

    Raises what `in_transaction` does.
    """

    @asynccontextmanager
    async def undivided(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with opened(engine) as tx:
            yield await tx.execution_options(**{_IS_UNDIVIDED: True})

    try:
        return await in_transaction(engine, work, undivided)
    except StatementRefused:
        return await in_transaction(engine, work, opened)


async def write_each(
    tx: AsyncConnection, row_ids: Sequence[int], write: Write, *, most_in_vain: int | None = None, advice: str = ADVICE
) -> Written:
    """Write rows, in one statement if all of them can be. Raises what is not for single rows.

    `most_in_vain`: with so many refused and none written it is no row's fault, and `StatementRefused` is raised.
    `advice`: what is said behind why a row is refused.
    """
    if row_ids and tx.sync_connection and tx.sync_connection.get_execution_options().get(_IS_UNDIVIDED):
        return Written({*await write(row_ids)})
    written = Written()

    async def goes_through(group: Sequence[int]) -> bool:
        try:
            async with tx.begin_nested():
                ids = set(await write(group))
        except DBAPIError as error:
            refusal = translate(error)
            if not isinstance(refusal, StatementRefused):
                raise
            if len(group) == 1:
                written.refused[group[0]] = f"{REFUSES} ({refusal.sqlstate}: {refusal.words}); {advice}"
                if not written.ids and len(written.refused) == most_in_vain:
                    raise refusal from None
            return False
        written.ids.update(ids)
        return True

    bisection = Bisection(row_ids)
    while group := bisection.group:
        bisection.tell(went_through=await goes_through(group))
    return written


async def write_rows(
    tx: AsyncConnection, statement: TextClause, row_ids: Sequence[int], **parameters: Any
) -> Iterable[int]:
    """Run a statement that writes the rows of these ids, and returns the ids of those that it wrote."""
    return (await tx.execute(statement, {"ids": list(row_ids), **parameters})).scalars()


IDS = bindparam("ids", type_=ARRAY(BigInteger))
