"""What an audit has seen in the API, and what it is to look at once more.

No transaction touches more than a few thousand rows, however many a voucher has, but for the one that notes which codes
of a group of vouchers are not listed; those rows are nobody else's.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    bindparam,
    column,
    delete,
    func,
    literal,
    or_,
    outerjoin,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit.store import Scope, is_one_of
from sync.audit.tables import audit_candidates, audit_seen
from sync.mews.records import VoucherCode
from sync.mirror.tables import voucher_codes
from sync.postgres.metadata import TIMESTAMP

SLICE = 10_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A code that seems to have drifted. `is_listed`: the API listed it."""

    voucher_id: UUID
    code_id: UUID
    is_listed: bool


async def clear_slice(tx: AsyncConnection, connection: str, voucher_ids: Sequence[UUID] | None = None) -> bool:
    """Forget some of what was seen, or some candidates of vouchers; whether there is more.

    In the order of the primary key: without statistics of a table that was just filled, another way may take minutes.
    """
    table = audit_seen if voucher_ids is None else audit_candidates
    of_these = [table.c.connection == connection]
    if voucher_ids is not None:
        of_these.append(is_one_of(audit_candidates.c.voucher_id, voucher_ids))
    ordered = select(table.c.code_id).where(*of_these).order_by(table.c.code_id)
    last = (await tx.execute(ordered.offset(SLICE - 1).limit(1))).scalar()
    if last is not None:
        of_these.append(table.c.code_id <= last)
    await tx.execute(delete(table).where(*of_these))
    return last is not None


async def note_listed(
    tx: AsyncConnection, connection: str, began_at: datetime, codes: Sequence[VoucherCode]
) -> tuple[set[UUID], list[UUID]]:
    """Note codes that the API lists: which were noted before, and which of the others are not plainly equal."""
    columns = dict(zip(VoucherCode._fields, map(list, zip(*codes, strict=True)), strict=True))
    rows = (await tx.execute(_NOTE_LISTED, {"connection": connection, "began_at": began_at, **columns})).all()
    return {row.id for row in rows if not row.is_new}, [row.id for row in rows if row.is_new]


async def note_seen(tx: AsyncConnection, connection: str, code_ids: Sequence[UUID]) -> None:
    """Note codes that the API lists."""
    given = select(literal(connection), func.pg_catalog.unnest(literal(list(code_ids), ARRAY(UUID_TYPE))))
    await tx.execute(insert(audit_seen).from_select(["connection", "code_id"], given).on_conflict_do_nothing())


async def note_candidates(
    tx: AsyncConnection, connection: str, candidates: Sequence[tuple[UUID, UUID]], *, is_listed: bool
) -> None:
    """Note codes to be looked at once more, each with its voucher before it."""
    vouchers_, codes = (
        func.pg_catalog.unnest(literal(list(ids), ARRAY(UUID_TYPE))) for ids in zip(*candidates, strict=True)
    )
    given = select(literal(connection), vouchers_, codes, literal(is_listed))
    names = ["connection", "voucher_id", "code_id", "is_listed"]
    await tx.execute(insert(audit_candidates).from_select(names, given).on_conflict_do_nothing())


async def unlisted(
    tx: AsyncConnection, connection: str, scopes: Sequence[Scope]
) -> AsyncIterator[list[tuple[UUID, UUID]]]:
    """The mirror's codes, each with its voucher before it, that the API did not list and nobody wrote meanwhile."""
    if not scopes:
        return
    is_seen = (
        select(literal(1))
        .where(audit_seen.c.connection == connection, audit_seen.c.code_id == voucher_codes.c.id)
        .exists()
    )
    query = select(voucher_codes.c.voucher_id, voucher_codes.c.id).where(
        is_one_of(voucher_codes.c.voucher_id, [scope.voucher_id for scope in scopes]),
        voucher_codes.c.missing_since.is_(None),
        voucher_codes.c.mirrored_at < scopes[0].began_at,
        ~is_seen,
    )
    async for rows in (await tx.stream(query)).partitions(SLICE):
        yield [(row.voucher_id, row.id) for row in rows]


async def drop_listed_after_all(tx: AsyncConnection, connection: str, code_ids: Sequence[UUID]) -> None:
    """Forget of the unlisted candidates those that the API lists now."""
    of_these = is_one_of(audit_candidates.c.code_id, code_ids)
    await tx.execute(delete(audit_candidates).where(*_unlisted_of(connection), of_these))


async def count_unlisted(tx: AsyncConnection, connection: str) -> int:
    """How many codes of a connection the API did not list."""
    return int((await tx.execute(select(func.count()).where(*_unlisted_of(connection)))).scalar_one())


async def with_unlisted(tx: AsyncConnection, connection: str, voucher_ids: Sequence[UUID]) -> list[UUID]:
    """The vouchers of which the API did not list some codes."""
    query = select(audit_candidates.c.voucher_id).where(*_unlisted_of(connection), _is_of(voucher_ids)).distinct()
    return list((await tx.execute(query)).scalars())


async def some_candidates(
    tx: AsyncConnection, connection: str, voucher_ids: Sequence[UUID], limit: int
) -> list[Candidate]:
    """Some candidates of vouchers, those of one voucher after the other."""
    columns = (audit_candidates.c.voucher_id, audit_candidates.c.code_id, audit_candidates.c.is_listed)
    query = select(*columns).where(audit_candidates.c.connection == connection, _is_of(voucher_ids))
    return [Candidate(*row) for row in await tx.execute(query.order_by(*columns[:2]).limit(limit))]


async def drop_candidates(tx: AsyncConnection, connection: str, candidates: Sequence[Candidate]) -> None:
    """Forget candidates that were looked at."""
    ids = zip(*((one.voucher_id, one.code_id) for one in candidates), strict=True)
    given = func.unnest(*(literal(list(each), ARRAY(UUID_TYPE)) for each in ids))
    names = (column("voucher_id", UUID_TYPE), column("code_id", UUID_TYPE))
    pairs = given.table_valued(*names).render_derived(name="given")
    looked_at = (audit_candidates.c.voucher_id == pairs.c.voucher_id, audit_candidates.c.code_id == pairs.c.code_id)
    await tx.execute(delete(audit_candidates).where(audit_candidates.c.connection == connection, *looked_at))


def _is_of(voucher_ids: Sequence[UUID]) -> ColumnElement[bool]:
    return is_one_of(audit_candidates.c.voucher_id, voucher_ids)


def _unlisted_of(connection: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return audit_candidates.c.connection == connection, ~audit_candidates.c.is_listed


def _note_listed() -> Select[Any]:
    """What is plainly equal, nearly all of a page, never leaves the database."""
    names = VoucherCode._fields
    arrays = [bindparam(name, type_=ARRAY(voucher_codes.c[name].type)) for name in names]
    listed = (
        func.unnest(*arrays)
        .table_valued(*(column(name, voucher_codes.c[name].type) for name in names))
        .render_derived(name="listed")
    )
    given = select(bindparam("connection", type_=Text), listed.c.id)
    noting = insert(audit_seen).from_select(["connection", "code_id"], given).on_conflict_do_nothing()
    new = noting.returning(audit_seen.c.code_id).cte("new")
    is_equal = and_(
        voucher_codes.c.mirrored_at < bindparam("began_at", type_=TIMESTAMP),
        voucher_codes.c.missing_since.is_(None),
        *(voucher_codes.c[name].is_not_distinct_from(listed.c[name]) for name in names if name != "id"),
    )
    # As a set: joined, the planner, who knows no size of either, would compare each listed code with each new one.
    is_new = listed.c.id.in_(select(new.c.code_id))
    joined = outerjoin(listed, voucher_codes, voucher_codes.c.id == listed.c.id)
    is_told = or_(~is_new, is_equal.is_not(True))
    return select(listed.c.id, is_new.label("is_new")).select_from(joined).where(is_told)


_NOTE_LISTED = _note_listed()
