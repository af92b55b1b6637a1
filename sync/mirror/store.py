"""Committing a page of the API's records; what the database refuses for itself is set aside, and the rest goes on."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.connection import Connection
from sync.connection.tables import enterprises
from sync.core.errors import StatementRefused
from sync.mews.pages import Page
from sync.mews.records import Enterprise, Record, Rejected, Service, Voucher, VoucherCode
from sync.mirror import tables, upsert
from sync.postgres.engine import in_transaction
from sync.postgres.refused_rows import Target, sort_out

EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Instants for a made-up row; what begins then does not end before."""

R = TypeVar("R", bound=Record)
T = TypeVar("T")


class Run(Protocol):
    """Has something done in a transaction, as `in_transaction` does."""

    async def __call__(self, engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]], /) -> T:
        """What `work` returns."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[R]):
    """Records of one list of the API's, named `name` there. `likes`: see `Target`."""

    name: str
    table: Table
    store: Callable[[AsyncConnection, str, Sequence[R]], Awaitable[int]]
    likes: Callable[[R], Sequence[R]]


@dataclass(frozen=True, slots=True)
class DeletedCode:
    """A code that a call has deleted."""

    id: UUID


def likes_of(table: Table, record: R) -> list[R]:
    """New records that each differ from this one in one property, and one that differs in all.

    What refuses one of them and not another is for what a row holds. None breaks a rule of the table's own.
    """
    names = [name for name in api_columns(record) if name != "id"]
    others = {name: _others(getattr(record, name), name, is_nullable=bool(table.c[name].nullable)) for name in names}
    changes: list[dict[str, object]] = [{name: other} for name in names for other in others[name]]
    changes.append({name: found[-1] for name, found in others.items() if found})
    return [_replaced(record, {"id": uuid4(), **one}) for one in changes]


def _others(value: object, name: str, *, is_nullable: bool) -> list[object]:
    if isinstance(value, bool):
        return [not value]
    if name.endswith("_id"):
        return [uuid4()]
    if name.endswith("_utc"):
        made_up = LATEST if "_end_" in name else EARLIEST
        return [made_up if value is None else None] if is_nullable else []
    return [None, str(uuid4())] if is_nullable else [str(uuid4())]


def _replaced(record: R, changes: Mapping[str, object]) -> R:
    if hasattr(record, "_replace"):
        return cast(R, record._replace(**changes))
    return replace(record, **changes)  # type: ignore[type-var]  # what is no named tuple is a dataclass


def _kind(name: str, table: Table, store: Callable[[AsyncConnection, str, Sequence[R]], Awaitable[int]]) -> Kind[R]:
    return Kind(name, table, store, partial(likes_of, table))


async def _note_deleted(tx: AsyncConnection, _connection: str, deleted: Sequence[DeletedCode]) -> int:
    if not deleted:
        return 0
    return await upsert.note_deleted(tx, [one.id for one in deleted])


CODES: Kind[VoucherCode] = _kind("VoucherCodes", tables.voucher_codes, upsert.store_voucher_codes)
VOUCHERS: Kind[Voucher] = _kind("Vouchers", tables.vouchers, upsert.store_vouchers)
SERVICES: Kind[Service] = _kind("Services", tables.services, upsert.store_services)
ENTERPRISES: Kind[Enterprise] = _kind("Enterprises", enterprises, upsert.store_enterprises)
DELETED_CODES: Kind[DeletedCode] = Kind("DeletedVoucherCodes", tables.voucher_codes, _note_deleted, lambda deleted: ())


async def store_page(
    connection: Connection,
    kind: Kind[R],
    page: Page[R],
    work: Callable[[AsyncConnection, Page[R], int], Awaitable[T]],
    run: Run = in_transaction,
) -> T:
    """What `work` returns, which stores a page's records and keeps its rejected ones, in one transaction of `run`.

    Where the database refuses that, it is called again with what is refused among the rejected records, and with how
    many rows were written meanwhile. Raises `StatementRefused` where it is not for single records.
    """
    engine, page = connection.engine, connection.refusals.leave_out(kind.name, page)
    try:
        return await run(engine, lambda tx: work(tx, page, 0))
    except StatementRefused as refusal:
        found = await sort_out(engine, target_of(connection, kind), page.records, refusal)
    rejected = [set_aside(connection, kind, record, error) for record, error in found.refused]
    rest = replace(page, records=found.stored, rejected=[*page.rejected, *rejected])
    return await run(engine, lambda tx: work(tx, rest, found.written))


def target_of(connection: Connection, kind: Kind[R]) -> Target[R]:
    """Where records of a kind go."""

    async def write(tx: AsyncConnection, records: Sequence[R]) -> int:
        return await kind.store(tx, connection.name, records)

    return Target(kind.table, write, lambda record: record.id, kind.likes)


def set_aside(connection: Connection, kind: Kind[R], record: R, refusal: StatementRefused) -> Rejected:
    """What is kept of a record that the database refuses; it is not tried again for a while."""
    rejected = as_rejected(kind.name, record.id, api_object(record), refusal)
    connection.refusals.note(record, rejected)
    return rejected


def as_rejected(kind: str, record_id: UUID, content: object, refusal: StatementRefused) -> Rejected:
    """What is kept of something that the database refuses."""
    return Rejected(kind, str(record_id), as_raw(content), f"{refusal.sqlstate}: {refusal.words}", refusal.sqlstate)


def as_raw(content: object) -> str:
    """Its JSON."""
    return msgspec.json.encode(content).decode()


def api_object(record: Any) -> dict[str, Any]:
    """A record by the API's names of its properties."""
    return {
        "".join(part.capitalize() for part in name.split("_")): value for name, value in api_columns(record).items()
    }


def api_columns(record: Any) -> dict[str, Any]:
    """A record by the names of its columns."""
    columns: dict[str, Any] = record._asdict() if hasattr(record, "_asdict") else asdict(record)
    return columns
