"""What a listing has shown so far, a row for each page, and how that stands to the mirror.

What is plainly equal, nearly all of a page, never leaves the database.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, Text, and_, bindparam, column, delete, func, outerjoin, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit.candidates import SLICE
from sync.audit.store import Scope, is_one_of
from sync.audit.tables import audit_pages
from sync.mews.records import VoucherCode, columns_of
from sync.mirror.tables import voucher_codes
from sync.postgres import arrays
from sync.postgres.metadata import TIMESTAMP


@dataclass(frozen=True, slots=True)
class Listing:
    """One listing of some vouchers of a connection."""

    connection: str
    id: UUID = field(default_factory=uuid4)


async def note_page(
    tx: AsyncConnection, listing: Listing, began_at: datetime, codes: Sequence[VoucherCode], beside: Sequence[UUID]
) -> list[VoucherCode]:
    """Note the codes of a page, and those `beside` that cannot be stored; which of the codes are not plainly equal."""
    columns = dict(zip(VoucherCode._fields, columns_of(codes), strict=True)) if codes else _NO_CODES
    given = {"connection": listing.connection, "listing": listing.id, "began_at": began_at, "beside": list(beside)}
    return [codes[position - 1] for position in (await tx.execute(_NOTE_PAGE, given | columns)).scalars()]


async def unlisted(
    tx: AsyncConnection, listings: Sequence[Listing], scopes: Sequence[Scope]
) -> AsyncIterator[list[tuple[UUID, UUID]]]:
    """The mirror's codes, each with its voucher before it, that no listing showed and nobody wrote meanwhile."""
    if not scopes:
        return
    # Planned for a cursor, with no statistics of a mirror that was just filled, each code would be compared with each.
    await tx.execute(text("SET LOCAL enable_nestloop = off"))
    shown = select(func.pg_catalog.unnest(audit_pages.c.code_ids).label("code_id")).where(_is_of(listings)).subquery()
    query = select(voucher_codes.c.voucher_id, voucher_codes.c.id).where(
        is_one_of(voucher_codes.c.voucher_id, [scope.voucher_id for scope in scopes]),
        voucher_codes.c.missing_since.is_(None),
        voucher_codes.c.mirrored_at < scopes[0].began_at,
        ~select(1).where(shown.c.code_id == voucher_codes.c.id).exists(),
    )
    async for rows in (await tx.stream(query)).partitions(SLICE):
        yield [(row.voucher_id, row.id) for row in rows]


async def forget(tx: AsyncConnection, listings: Sequence[Listing]) -> None:
    """Forget what listings have shown."""
    await tx.execute(delete(audit_pages).where(_is_of(listings)))


async def forget_all(tx: AsyncConnection, connection: str) -> None:
    """Forget what listings of a process have shown that ended in the middle of them."""
    await tx.execute(delete(audit_pages).where(audit_pages.c.connection == connection))


def _is_of(listings: Sequence[Listing]) -> ColumnElement[bool]:
    return is_one_of(audit_pages.c.listing, [one.id for one in listings])


def _note_page() -> Select[Any]:
    names = VoucherCode._fields
    codes = {name: bindparam(name, type_=arrays.Column(voucher_codes.c[name].type)) for name in names}
    listed = (
        func.unnest(*codes.values())
        .table_valued(*(column(name, voucher_codes.c[name].type) for name in names), with_ordinality="position")
        .render_derived(name="listed")
    )
    page = select(
        bindparam("connection", type_=Text),
        bindparam("listing", type_=UUID_TYPE),
        func.pg_catalog.array_cat(codes["id"], bindparam("beside", type_=ARRAY(UUID_TYPE))),
    )
    noted = insert(audit_pages).from_select(["connection", "listing", "code_ids"], page).cte("noted")
    is_equal = and_(
        voucher_codes.c.mirrored_at < bindparam("began_at", type_=TIMESTAMP),
        voucher_codes.c.missing_since.is_(None),
        *(voucher_codes.c[name].is_not_distinct_from(listed.c[name]) for name in names if name != "id"),
    )
    joined = outerjoin(listed, voucher_codes, voucher_codes.c.id == listed.c.id)
    return select(listed.c.position).select_from(joined).where(is_equal.is_not(True)).add_cte(noted)


_NO_CODES: dict[str, list[Any]] = {name: [] for name in VoucherCode._fields}
_NOTE_PAGE = _note_page()
