"""Committing a page of the API's records; what the database refuses for itself is set aside, and the rest goes on."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.db import mirror, tables
from sync.db.connection_tables import enterprises
from sync.db.engine import Opened, in_transaction, transaction
from sync.db.set_aside import Target, sort_out
from sync.flows.connection import Connection
from sync.mews.pages import Page
from sync.model.errors import StatementRefused
from sync.model.records import Enterprise, Rejected, Service, Voucher, VoucherCode


class Record(Protocol):
    """Whatever has an id of the API's."""

    @property
    def id(self) -> UUID: ...


R = TypeVar("R", bound=Record)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind(Generic[R]):
    """Records of one list of the API's, named `name` there. `likes`: see `Target`."""

    name: str
    table: Table
    store: Callable[[AsyncConnection, str, Sequence[R]], Awaitable[int]]
    likes: Callable[[R], Sequence[R]]


def _codes_like(code: VoucherCode) -> list[VoucherCode]:
    return [code._replace(id=uuid4(), value=value) for value in (None, str(uuid4()))]


def _vouchers_like(voucher: Voucher) -> list[Voucher]:
    return [replace(voucher, id=uuid4(), name=text, external_identifier=text) for text in (None, str(uuid4()))]


def _services_like(service: Service) -> list[Service]:
    return [replace(service, id=uuid4(), name=name) for name in (None, str(uuid4()))]


def _enterprises_like(enterprise: Enterprise) -> list[Enterprise]:
    return [replace(enterprise, id=uuid4(), name=str(uuid4()))]


CODES = Kind("VoucherCodes", tables.voucher_codes, mirror.store_voucher_codes, _codes_like)
VOUCHERS = Kind("Vouchers", tables.vouchers, mirror.store_vouchers, _vouchers_like)
SERVICES = Kind("Services", tables.services, mirror.store_services, _services_like)
ENTERPRISES = Kind("Enterprises", enterprises, mirror.store_enterprises, _enterprises_like)


async def store_page(
    connection: Connection,
    kind: Kind[R],
    page: Page[R],
    work: Callable[[AsyncConnection, Page[R], int], Awaitable[T]],
    opened: Opened = transaction,
) -> T:
    """What `work` returns, which stores a page's records and keeps its rejected ones, in one transaction.

    Where the database refuses that, it is called again with what is refused among the rejected records, and with how
    many rows were written meanwhile. Raises `StatementRefused` where it is not for single records.
    """
    engine, page = connection.engine, connection.refusals.leave_out(kind.name, page)
    try:
        return await in_transaction(engine, lambda tx: work(tx, page, 0), opened)
    except StatementRefused as refusal:
        found = await sort_out(engine, target_of(connection, kind), page.records, refusal)
    rejected = [set_aside(connection, kind, record, error) for record, error in found.refused]
    rest = replace(page, records=found.stored, rejected=[*page.rejected, *rejected])
    return await in_transaction(engine, lambda tx: work(tx, rest, found.written), opened)


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
    columns: dict[str, Any] = record._asdict() if hasattr(record, "_asdict") else asdict(record)
    return {"".join(part.capitalize() for part in name.split("_")): value for name, value in columns.items()}
