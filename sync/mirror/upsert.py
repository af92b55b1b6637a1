"""What stands in schema `mews`: written only where it differs, never by something staler."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID as UUID_

from sqlalchemy import (
    ColumnElement,
    Table,
    Text,
    and_,
    bindparam,
    case,
    column,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, UUID, distinct_on, insert
from sqlalchemy.dialects.postgresql.dml import Insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.store import refuse_purged
from sync.connection.tables import enterprises
from sync.mews.limits import MAX_PAGE_SIZE
from sync.mews.records import Enterprise, Service, Voucher, VoucherAssignment, VoucherCode, columns_of
from sync.mirror import tables
from sync.mirror.skipped import is_skipped
from sync.postgres import arrays
from sync.postgres.metadata import TIMESTAMP, UNDER_WAY

READ_BACK_FOR = timedelta(hours=1)
"""A delete that the API does not show after so long is left to the audit."""
LONG_AGO = literal("-infinity", TIMESTAMP)
"""How a missing `updated_utc` compares: staler than any other."""

MIRRORED_NOW = {"mirrored_at": func.clock_timestamp()}
"""Of a row that is changed. It is read once the row is locked, so that of two who change it the later one notes a later
instant: versions of it would overlap otherwise, by as long as a transaction waited."""


def upsert(table: Table, names: Sequence[str], *, resets: Sequence[str] = (), guard: str | None = None) -> Insert:
    """One statement that brings `table` up to a page of rows: parameters `connection`, and a list for each column.

    Rows that are stored already, or stored fresher (by `updated_utc`, where the table has it; at equal instants, which
    the API counts in whole seconds, the later reading wins), are dropped before the insert, so that they are not even
    locked and a page without news writes no WAL. An id that comes twice in a page counts once, at its freshest: a
    second one would make the statement fail. Columns in `resets` become null, and a row in which they are not is news.
    While the column `guard` is set, no reading in which the record is active is believed, however fresh it seems.
    """
    given = [bindparam(name, type_=arrays.Column(table.c[name].type)) for name in names]
    page = (
        func.unnest(*given)
        .table_valued(*(column(name, table.c[name].type) for name in names), with_ordinality="position")
        .render_derived(name="page")
    )
    freshest = (
        select(page)
        .ext(distinct_on(page.c.id))
        .order_by(page.c.id, *([page.c.updated_utc.desc().nulls_last()] if "updated_utc" in names else []))
        .order_by(page.c.position.desc())
        .subquery("freshest")
    )
    news = (
        select(*(freshest.c[name] for name in names), bindparam("connection", type_=Text))
        .outerjoin_from(freshest, table, table.c.id == freshest.c.id)
        .where(or_(table.c.id.is_(None), _is_news(table, freshest.c, names, resets, guard)))
        .order_by(freshest.c.id)  # two transactions that share rows lock them in the same order
    )
    statement = insert(table).from_select([*names, "connection"], news, include_defaults=False)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[table.c.id],
        set_={name: new[name] for name in names if name != "id"} | dict.fromkeys(resets) | MIRRORED_NOW,
        where=_is_news(table, new, names, resets, guard),
    )


def _is_news(
    table: Table, row: Any, names: Sequence[str], resets: Sequence[str], guard: str | None
) -> ColumnElement[bool]:
    differs = or_(
        *(table.c[name].is_distinct_from(row[name]) for name in names if name != "id"),
        *(table.c[name].is_not(None) for name in resets),
    )
    if "updated_utc" not in names:
        return differs
    stored, read = table.c.updated_utc, row.updated_utc
    is_fresh = func.coalesce(read, LONG_AGO) >= func.coalesce(stored, LONG_AGO)
    # What shows a noted delete comes after what stands here, however far the API's clock was put back in between.
    is_believed = case((table.c[guard].is_(None), is_fresh), else_=~row.is_active) if guard else is_fresh
    return and_(is_believed, differs)


UPSERT_VOUCHER_CODES = upsert(
    tables.voucher_codes, VoucherCode._fields, resets=["missing_since", "delete_noted_at"], guard="delete_noted_at"
)
UPSERT_VOUCHERS = upsert(tables.vouchers, Voucher.__slots__)
UPSERT_SERVICES = upsert(tables.services, Service.__slots__)
UPSERT_ENTERPRISES = upsert(enterprises, Enterprise.__slots__)


async def store_voucher_codes(tx: AsyncConnection, connection: str, codes: Sequence[VoucherCode]) -> int:
    """Bring the mirror up to a page of codes; how many rows that wrote."""
    if not codes:
        return 0
    columns = dict(zip(VoucherCode._fields, columns_of(codes), strict=True))
    return await _written(tx, UPSERT_VOUCHER_CODES, connection, columns)


async def note_deleted(tx: AsyncConnection, code_ids: Sequence[UUID_]) -> int:
    """Note that codes were deleted, which the API has not shown yet; how many rows that wrote.

    When it was is for the API to say: `updated_utc` stays until it has been read. Pages on their way that were read
    before the delete are kept out until then.
    """
    table = tables.voucher_codes
    active = (table.c.id.in_(code_ids), table.c.is_active)
    values = {"is_active": False, "delete_noted_at": func.now(), **MIRRORED_NOW}
    return (await tx.execute(update(table).where(*active).values(values))).rowcount


async def noted_deletes(tx: AsyncConnection, connection: str, least_age: timedelta) -> list[tuple[UUID_, UUID_]]:
    """Up to 1000 codes, each with its voucher, of which a delete was noted that the API has not shown yet; not those
    whose vouchers are left out, which would have each look refused for an hour."""
    table = tables.voucher_codes
    noted_at = table.c.delete_noted_at
    # One that lies ahead was noted before the database's clock went back, and does not wait for it.
    is_recent = or_(
        noted_at.between(func.now() - READ_BACK_FOR, func.now() - least_age), noted_at > func.now() + UNDER_WAY
    )
    of_these = (table.c.connection == connection, is_recent, ~is_skipped(table.c.connection, table.c.voucher_id))
    query = select(table.c.id, table.c.voucher_id).where(*of_these).order_by(table.c.delete_noted_at, table.c.id)
    return [(row.id, row.voucher_id) for row in await tx.execute(query.limit(MAX_PAGE_SIZE))]


async def store_vouchers(tx: AsyncConnection, connection: str, vouchers: Sequence[Voucher]) -> int:
    """Bring the mirror up to a page of vouchers; how many rows that wrote."""
    return await _store(tx, UPSERT_VOUCHERS, Voucher.__slots__, connection, vouchers)


async def store_services(tx: AsyncConnection, connection: str, services: Sequence[Service]) -> int:
    """Bring the mirror up to a page of services; how many rows that wrote."""
    return await _store(tx, UPSERT_SERVICES, Service.__slots__, connection, services)


async def store_enterprises(tx: AsyncConnection, connection: str, enterprises: Sequence[Enterprise]) -> int:
    """Bring the mirror up to a page of enterprises; how many rows that wrote."""
    return await _store(tx, UPSERT_ENTERPRISES, Enterprise.__slots__, connection, enterprises)


async def _store(
    tx: AsyncConnection, statement: Insert, names: Sequence[str], connection: str, records: Sequence[object]
) -> int:
    if not records:
        return 0
    columns = {name: [getattr(record, name) for record in records] for name in names}
    return await _written(tx, statement, connection, columns)


async def _written(
    tx: AsyncConnection, statement: Insert, connection: str, columns: Mapping[str, Sequence[Any]]
) -> int:
    """How many rows an upsert wrote, of a connection that is there: where there is no news, that is not even asked."""
    written = (await tx.execute(statement, {"connection": connection, **columns})).rowcount
    if written:
        await refuse_purged(tx, connection)
    return written


def _given_assignments() -> Any:
    arrays = [bindparam(name, type_=ARRAY(UUID)) for name in ("assigned_voucher_id", "rate_id")]
    return (
        func.unnest(*arrays)
        .table_valued(column("voucher_id", UUID), column("rate_id", UUID))
        .render_derived(name="given")
    )


def _drop_other_assignments() -> Any:
    table, given = tables.voucher_assignments, _given_assignments()
    is_given = select(given).where(given.c.voucher_id == table.c.voucher_id, given.c.rate_id == table.c.rate_id)
    of_these = table.c.voucher_id == func.any(bindparam("voucher_ids", type_=ARRAY(UUID)))
    return delete(table).where(of_these, ~is_given.exists())


def _add_assignments() -> Any:
    table, given = tables.voucher_assignments, _given_assignments()
    rows = select(given.c.voucher_id, given.c.rate_id).distinct()
    return insert(table).from_select(["voucher_id", "rate_id"], rows).on_conflict_do_nothing()


DROP_OTHER_ASSIGNMENTS = _drop_other_assignments()
ADD_ASSIGNMENTS = _add_assignments()


async def store_assignments(
    tx: AsyncConnection, voucher_ids: Sequence[Any], assignments: Sequence[VoucherAssignment]
) -> int:
    """Make `assignments` the only ones of these vouchers; how many rows that wrote."""
    parameters = {
        "assigned_voucher_id": [one.voucher_id for one in assignments],
        "rate_id": [one.rate_id for one in assignments],
    }
    dropped = await tx.execute(DROP_OTHER_ASSIGNMENTS, {"voucher_ids": list(voucher_ids), **parameters})
    added = await tx.execute(ADD_ASSIGNMENTS, parameters)
    return dropped.rowcount + added.rowcount
