"""What the tests of the outbox share: rows queued as a user does, or brought to any state by the daemon's moves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.core.errors import DatabaseError
from sync.mirror.upsert import store_vouchers
from sync.outbox.claims import Lane, as_daemon
from sync.outbox.rules import Operation, Status
from tests.support.database import CONNECTION, blocked, make_known, rows, uuid, voucher
from tests.support.instants import utc

VOUCHER, OTHER_VOUCHER, UNKNOWN_VOUCHER = uuid(1000), uuid(1001), uuid(1999)
HOTEL = uuid(3000)
SENT_UTC = utc(2026, 1, 1, 12)
ADDS, DELETES = Lane(CONNECTION, Operation.ADD, HOTEL), Lane(CONNECTION, Operation.DELETE, HOTEL)
LEASE = timedelta(seconds=30)
ADD: dict[str, Any] = {"operation": "add", "voucher_id": VOUCHER, "value": "SUMMER"}
DELETE: dict[str, Any] = {"operation": "delete", "voucher_id": VOUCHER, "value": "SUMMER"}
KEY: dict[str, Any] = {"idempotency_key": "order 17"}
ON_CONFLICT = ["", "ON CONFLICT DO NOTHING", "ON CONFLICT (queued_by, idempotency_key) DO NOTHING"]
FINISHED = frozenset({Status.DONE, Status.FAILED, Status.CANCELLED})
UNFINISHED = frozenset(Status) - FINISHED
SAME_ADD = r"23505.*voucher_code_outbox_same_add_queued_idx"

_WAYS: dict[Status, tuple[Status, ...]] = {
    Status.PENDING: (),
    Status.SENDING: (Status.SENDING,),
    Status.UNCERTAIN: (Status.SENDING, Status.UNCERTAIN),
    Status.HELD: (Status.HELD,),
    Status.DONE: (Status.SENDING, Status.DONE),
    Status.FAILED: (Status.SENDING, Status.FAILED),
    Status.CANCELLED: (Status.CANCELLED,),
}


@asynccontextmanager
async def as_user(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction as any program makes it, which is told the database's own words."""
    try:
        async with engine.begin() as tx:
            yield tx
    except DBAPIError as error:
        words = str(error.orig).partition("\n")[0]
        raise DatabaseError(f"({getattr(error.orig, 'sqlstate', None)}): {words}") from error


async def execute(engine: AsyncEngine, statement: str, **parameters: Any) -> None:
    """Runs a statement that returns nothing, as any program does."""
    async with as_user(engine) as tx:
        await tx.execute(text(statement), parameters)


async def emptied(engine: AsyncEngine) -> "Outbox":
    """An empty outbox that knows one voucher, in a database that other tests may have used."""
    for table in ("mews.voucher_code_outbox", "mews.voucher_codes", "mews.vouchers", "sync.attempts"):
        await execute(engine, f"DELETE FROM {table}")
    outbox = Outbox(engine)
    await outbox.know(VOUCHER.int)
    return outbox


async def queue(tx: AsyncConnection, operation: str | None = "add", *, suffix: str = "", **columns: Any) -> int | None:
    """Inserts one row, of the known voucher unless it says something else; its id, or None if nothing was queued."""
    named = {"voucher_id": VOUCHER} if "value" in columns else {}
    given = {"operation": operation} | named | columns
    names, values = ", ".join(given), ", ".join(f":{name}" for name in given)
    statement = f"INSERT INTO mews.voucher_code_outbox ({names}) VALUES ({values}) {suffix} RETURNING id"
    return (await tx.execute(text(statement), given)).scalar()


async def change(tx: AsyncConnection, row_id: int, **columns: Any) -> None:
    """Updates one row."""
    changes = ", ".join(f"{name} = :{name}" for name in columns)
    await tx.execute(text(f"UPDATE mews.voucher_code_outbox SET {changes} WHERE id = :id"), {"id": row_id, **columns})


async def move(tx: AsyncConnection, row_id: int, status: Status) -> None:
    """Moves one row with all that belongs to the new status."""
    await tx.execute(
        text(
            "UPDATE mews.voucher_code_outbox SET status = CAST(:status AS text), "
            "finished_at = CASE WHEN :is_finished THEN now() END, "
            "uncertain_because = CASE WHEN :status = 'uncertain' THEN 'unknown' END, "
            "held_because = CASE WHEN :status = 'held' THEN 'too_many_deletes' END, "
            "attempt_id = coalesce(attempt_id, gen_random_uuid()), sent_at = coalesce(sent_at, now()), "
            "voucher_code_id = CASE WHEN :status = 'done' THEN coalesce(voucher_code_id, gen_random_uuid()) "
            "ELSE voucher_code_id END WHERE id = :id"
        ),
        {"id": row_id, "status": status.value, "is_finished": status in FINISHED},
    )


@dataclass(frozen=True, slots=True)
class Outbox:
    """The outbox of a database that knows one voucher, each step in a transaction of its own."""

    engine: AsyncEngine
    numbers: Iterator[int] = field(default_factory=count)

    async def queue(self, operation: str | None = "add", **columns: Any) -> int:
        """Queues one row as a user."""
        async with as_user(self.engine) as tx:
            row_id = await queue(tx, operation, **columns)
        assert row_id is not None
        return row_id

    async def queue_nothing(self, operation: str = "add", **columns: Any) -> None:
        """Inserts a row that is queued already."""
        before = await rows(self.engine, "SELECT * FROM mews.voucher_code_outbox ORDER BY id")
        async with as_user(self.engine) as tx:
            assert await queue(tx, operation, **columns) is None
        assert await rows(self.engine, "SELECT * FROM mews.voucher_code_outbox ORDER BY id") == before

    async def add(self, value: str | None = None, **columns: Any) -> int:
        """Queues an add, of a value of its own unless it is given."""
        return await self.queue("add", value=value or f"VALUE-{next(self.numbers)}", **columns)

    async def delete(self, value: str, **columns: Any) -> int:
        """Queues a delete by value."""
        return await self.queue("delete", value=value, **columns)

    async def change(self, row_id: int, **columns: Any) -> None:
        """Updates one row as a user."""
        async with as_user(self.engine) as tx:
            await change(tx, row_id, **columns)

    async def set(self, row_id: int, **columns: Any) -> None:
        """Updates one row as the daemon."""
        async with as_daemon(self.engine) as tx:
            await change(tx, row_id, **columns)

    async def bring(self, row_id: int, status: Status) -> None:
        """Brings a pending row to a status, move by move."""
        async with as_daemon(self.engine) as tx:
            for step in _WAYS[status]:
                await move(tx, row_id, step)

    async def row(self, row_id: int) -> RowMapping:
        """One row."""
        (row,) = await rows(self.engine, "SELECT * FROM mews.voucher_code_outbox WHERE id = :id", id=row_id)
        return row

    async def status(self, row_id: int) -> Status:
        """Where a row stands."""
        return Status((await self.row(row_id))["status"])

    async def statuses(self) -> list[str]:
        """Where every row stands, in the order of their ids."""
        found = await rows(self.engine, "SELECT status FROM mews.voucher_code_outbox ORDER BY id")
        return [row["status"] for row in found]

    async def now(self) -> datetime:
        """The database's time."""
        (row,) = await rows(self.engine, "SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now

    async def know(self, *numbers: int, connection: str = CONNECTION, **fields: Any) -> None:
        """Discovers vouchers."""
        async with as_user(self.engine) as tx:
            await make_known(tx, connection)
            await store_vouchers(tx, connection, [voucher(number, **fields) for number in numbers])

    async def attempts(self, row_id: int) -> Sequence[RowMapping]:
        """What was noted of a row's attempts."""
        noted = "SELECT * FROM mews.voucher_code_outbox_attempts WHERE outbox_id = :id ORDER BY settled_at"
        return await rows(self.engine, noted, id=row_id)

    async def open_attempts(self) -> dict[UUID, RowMapping]:
        """The attempts under way."""
        return {row["id"]: row for row in await rows(self.engine, "SELECT * FROM sync.attempts")}


def is_allowed(moves: dict[Status, frozenset[Status]], old: Status, new: Status) -> bool:
    """Whether a table of moves lets a row go on so; staying where it is is no move."""
    return new == old or new in moves.get(old, frozenset())


@asynccontextmanager
async def second(outbox: Outbox, act: Callable[[AsyncConnection], Awaitable[Any]]) -> AsyncIterator[asyncio.Task[Any]]:
    """Another transaction's act, which waits for a lock that this one holds."""

    async def run() -> Any:
        async with as_user(outbox.engine) as tx:
            return await act(tx)

    task = asyncio.create_task(run())
    try:
        await blocked(outbox.engine, task)
        assert not task.done()
        yield task
    finally:
        await asyncio.wait([task])


async def assert_both_are_cancelled(outbox: Outbox, add: int, delete: int) -> None:
    added, deleted = await outbox.row(add), await outbox.row(delete)
    assert (added["status"], deleted["status"]) == ("cancelled", "cancelled")
    assert added["last_error"] == f"taken back, before it was sent, by the delete in row {delete}"
    assert deleted["last_error"] == f"took back the add in row {add} before it was sent"
    assert (added["took_back_id"], deleted["took_back_id"]) == (None, add)
    assert added["finished_at"] is not None
    assert deleted["finished_at"] is not None
