"""Queueing a change in the outbox, as any user of the database may; its triggers check each row."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

import psycopg
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.core.errors import CommitUnknown, DatabaseError, DatabaseUnavailable
from sync.core.printable import printable
from sync.mirror.tables import vouchers
from sync.outbox.rules import Operation, Status
from sync.outbox.tables import UNFINISHED, outbox
from sync.postgres.engine import translate

UNKNOWN = (
    "it is not known whether this was done: see `voucher-sync outbox list` before you do it again, once the database "
    "answers"
)
KEPT_OUT = "something on the table of the outbox keeps this change out, without a word: look for triggers and policies"
REFUSALS = (psycopg.errors.IntegrityError, psycopg.errors.InsufficientPrivilege)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a row asks for; the columns that users fill."""

    operation: Operation
    voucher_id: UUID | None = None
    value: str | None = None
    validity_start_utc: datetime | None = None
    validity_end_utc: datetime | None = None
    voucher_code_id: UUID | None = None
    idempotency_key: str | None = None
    not_before: datetime | None = None
    note: str | None = None
    priority: int = 0
    after_id: int | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """The row of a change; `is_new` unless the same change was queued before, under the same idempotency key."""

    id: int
    status: Status
    last_error: str | None
    is_new: bool


@asynccontextmanager
async def user_transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction as long as it takes, since a million rows are queued in one.

    Raises `DatabaseError`; where a rule of the outbox is broken, in the words of the rule alone. `CommitUnknown` where
    it may have been done or not.
    """
    is_at_commit = False
    try:
        async with engine.begin() as connection:
            yield connection
            is_at_commit = True
    # Not chained: the detail of the database's error may hold a code's value, and a traceback would show it.
    except DBAPIError as error:
        found = _in_words(error)
        if is_at_commit and isinstance(found, DatabaseUnavailable):
            raise CommitUnknown(f"{UNKNOWN}: {found}") from None
        raise found from None
    except psycopg.Error as error:  # from a COPY, which goes past SQLAlchemy
        raise _in_words(DBAPIError(None, None, error)) from None


async def queue(tx: AsyncConnection, change: Change) -> Queued:
    """Insert one row. `DatabaseError` where the same add is queued already without the same key."""
    columns = (outbox.c.id, outbox.c.status, outbox.c.last_error)
    statement = insert(outbox).values(**asdict(change)).on_conflict_do_nothing().returning(*columns)
    for _ in range(2):  # the second time the trigger sees, and compares, what another transaction has queued meanwhile
        row = (await tx.execute(statement)).one_or_none()
        if row is not None:
            return Queued(row.id, Status(row.status), row.last_error, is_new=True)
    before = select(*columns).where(
        outbox.c.idempotency_key.collate("C") == change.idempotency_key,
        outbox.c.queued_by.collate("C") == func.session_user(),
    )
    row = (await tx.execute(before)).one_or_none() if change.idempotency_key is not None else None
    if row is None:
        raise DatabaseError(await _why_not(tx, change))
    return Queued(row.id, Status(row.status), row.last_error, is_new=False)


async def _why_not(tx: AsyncConnection, change: Change) -> str:
    """What keeps a change from being queued, of which the database told nothing."""
    same = select(func.min(outbox.c.id)).where(
        outbox.c.operation == Operation.ADD,
        outbox.c.voucher_id == change.voucher_id,
        outbox.c.value.collate("C") == change.value,
        outbox.c.status.in_(UNFINISHED),
    )
    row_id = (await tx.execute(same)).scalar() if change.operation is Operation.ADD else None
    if row_id is None:
        return KEPT_OUT
    return f"the same add is queued already, as row {row_id}. Wait until it is done, or cancel it first."


async def doubtful_vouchers(tx: AsyncConnection, ids: Iterable[UUID]) -> list[str]:
    """A sentence on each of the vouchers for which an add will probably fail, and why."""
    wanted: Sequence[UUID] = list(ids)
    query = select(vouchers.c.id, vouchers.c.name, vouchers.c.is_active).where(vouchers.c.id == func.any(wanted))
    known = {row.id: row for row in await tx.execute(query)}
    unknown = "voucher {} is not in the mirror; if Mews does not have it either, this will fail"
    deleted = "voucher {} ({}) is deleted in Mews, so this will probably fail"
    return [unknown.format(one) for one in wanted if one not in known] + [
        deleted.format(printable(row.name or "without a name"), row.id) for row in known.values() if not row.is_active
    ]


def _in_words(error: DBAPIError) -> DatabaseError:
    cause = error.orig
    if not isinstance(cause, REFUSALS) or not cause.diag.message_primary:
        return translate(error)
    if cause.diag.constraint_name == "voucher_code_outbox_same_add_queued_idx":
        return DatabaseError("somebody queued the same add at this moment: see `voucher-sync outbox list`")
    hint = f". {cause.diag.message_hint}" if cause.diag.message_hint else ""
    return DatabaseError(f"{cause.diag.message_primary}{hint}")
