"""Two changes of which the second goes once the first is done: a code is replaced, or gets another validity.

The API has no operation to change a code (docs/mews-api.md, *Voucher codes*).
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.errors import VoucherSyncError
from sync.core.plurals import plural
from sync.mirror.tables import voucher_codes
from sync.outbox.enqueue import Change, Queued, queue
from sync.outbox.rules import Operation, Status
from sync.outbox.tables import outbox

SECOND_KEY = " (second)"
"""What stands behind the idempotency key of a pair in that of its second half."""
MAX_KEY_LENGTH = 255 - len(SECOND_KEY)


@dataclass(frozen=True, slots=True)
class CodeName:
    """A code as a user names it: by its id, or by voucher and value."""

    voucher_code_id: UUID | None = None
    voucher_id: UUID | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class NewCode:
    """What the new code is to be, beside its value. Without `start_utc` or `end_utc` it has those of the old code."""

    start_utc: datetime | None = None
    end_utc: datetime | None = None
    not_before: datetime | None = None
    idempotency_key: str | None = None
    note: str | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class _StandingCode:
    """A code that stands in the mirror."""

    id: UUID
    voucher_id: UUID
    value: str
    validity_start_utc: datetime | None
    validity_end_utc: datetime | None


async def queue_replacement(tx: AsyncConnection, old: CodeName, value: str, new: NewCode) -> tuple[Queued, Queued]:
    """Queue an add of `value` in the voucher of `old`, and behind it the delete of `old`.

    Until the new code stands the old one does. Raises `VoucherSyncError` where the mirror shows no such code, several,
    or where both have one value.
    """
    if queued := await _queued_before(tx, Operation.ADD, old, value, new):
        return queued
    standing = await _standing(tx, old)
    if standing.value == value:
        raise VoucherSyncError("the new code is the old one: `voucher-sync outbox extend` gives it another validity")
    return await _queue_pair(tx, _add(standing, value, new), _delete(standing), new)


async def queue_extension(tx: AsyncConnection, old: CodeName, new: NewCode) -> tuple[Queued, Queued]:
    """Queue the delete of `old`, and behind it an add of the same value: a voucher holds a value once at a time.

    So in between there is no such code. Raises `VoucherSyncError` where the mirror shows no such code, or several, or
    where it has that validity already.
    """
    if queued := await _queued_before(tx, Operation.DELETE, old, None, new):
        return queued
    standing = await _standing(tx, old)
    add = _add(standing, standing.value, new)
    if _in_whole_seconds(add) == _in_whole_seconds(standing):
        raise VoucherSyncError("the code has this validity already, so nothing is queued")
    return await _queue_pair(tx, _delete(standing), add, new)


def _add(standing: _StandingCode, value: str, new: NewCode) -> Change:
    return Change(
        operation=Operation.ADD,
        voucher_id=standing.voucher_id,
        value=value,
        validity_start_utc=new.start_utc or standing.validity_start_utc,
        validity_end_utc=new.end_utc or standing.validity_end_utc,
    )


def _in_whole_seconds(one: Change | _StandingCode) -> list[datetime | None]:
    """A validity as the API keeps it."""
    validity = (one.validity_start_utc, one.validity_end_utc)
    return [instant and instant.replace(microsecond=0) for instant in validity]


def _delete(standing: _StandingCode) -> Change:
    return Change(operation=Operation.DELETE, voucher_code_id=standing.id)


async def _queue_pair(tx: AsyncConnection, first: Change, second: Change, new: NewCode) -> tuple[Queued, Queued]:
    key = new.idempotency_key
    first, second = (replace(one, note=new.note, priority=new.priority) for one in (first, second))
    queued = await queue(tx, replace(first, not_before=new.not_before, idempotency_key=key))
    behind = replace(second, after_id=queued.id, idempotency_key=key and key + SECOND_KEY)
    return queued, await queue(tx, behind)


async def _queued_before(
    tx: AsyncConnection, first: Operation, old: CodeName, value: str | None, new: NewCode
) -> tuple[Queued, Queued] | None:
    """A pair that this user has queued under the same key: once it is done, its old code stands no more.

    `first`: the operation of its first half. `value`: of the new code; None: that of the old one. `VoucherSyncError`
    where the pair asks for something else.
    """
    if (key := new.idempotency_key) is None:
        return None
    if len(key) > MAX_KEY_LENGTH:
        has = plural(len(key), "character")
        raise VoucherSyncError(f"idempotency_key: has {has}, {MAX_KEY_LENGTH} are the most for a change of two rows")
    keys = [key, key + SECOND_KEY]
    statement = select(outbox).where(
        outbox.c.queued_by.collate("C") == func.session_user(), outbox.c.idempotency_key.collate("C").in_(keys)
    )
    found = {row.idempotency_key: row for row in await tx.execute(statement)}
    if len(found) < len(keys):
        return None
    pair = [found[one] for one in keys]
    add, delete = pair if first is Operation.ADD else reversed(pair)
    if not _asks_for(add, delete, old, value, new):
        raise VoucherSyncError(
            f"idempotency_key: rows {pair[0].id} and {pair[1].id} have the same key and ask for something else; give "
            "each change a key of its own"
        )
    halves = [Queued(row.id, Status(row.status), row.last_error, is_new=False) for row in pair]
    return halves[0], halves[1]


def _asks_for(add: Row[Any], delete: Row[Any], old: CodeName, value: str | None, new: NewCode) -> bool:
    """Whether rows are the halves of such a pair. What was not given, the new code has of the old one."""
    asked = (
        (add.operation, Operation.ADD),
        (delete.operation, Operation.DELETE),
        (delete.voucher_code_id, old.voucher_code_id),
        (delete.voucher_id, old.voucher_id),
        (delete.value, old.value),
        (add.value, delete.value if value is None else value),
        (add.validity_start_utc, new.start_utc),
        (add.validity_end_utc, new.end_utc),
    )
    return all(wanted is None or queued == wanted for queued, wanted in asked)


async def _standing(tx: AsyncConnection, named: CodeName) -> _StandingCode:
    conditions = [
        column == name
        for column, name in (
            (voucher_codes.c.id, named.voucher_code_id),
            (voucher_codes.c.voucher_id, named.voucher_id),
            (voucher_codes.c.value, named.value),
        )
        if name is not None
    ]
    columns = (voucher_codes.c[name] for name in _StandingCode.__slots__)
    is_usable = (voucher_codes.c.is_active, voucher_codes.c.missing_since.is_(None), voucher_codes.c.value.is_not(None))
    found = (await tx.execute(select(*columns).where(*conditions, *is_usable).limit(2))).mappings().all()
    if len(found) > 1:
        raise VoucherSyncError("several active codes have this value: name one by --code ID")
    if not found:
        raise VoucherSyncError(
            "the mirror shows no such active code: see `voucher-sync outbox list --code`, or wait for the next pull"
        )
    return _StandingCode(**found[0])
