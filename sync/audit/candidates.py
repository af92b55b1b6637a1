"""What an audit is to look at once more before it calls it drifted.

No transaction touches more than a few thousand rows, however many a voucher has, but for the one that notes which codes
of a group of vouchers are not listed; those rows are nobody else's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    column,
    delete,
    exists,
    func,
    join,
    literal,
    or_,
    outerjoin,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit.store import is_one_of
from sync.audit.tables import audit_candidates
from sync.mirror.tables import voucher_codes, vouchers

SLICE = 10_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A code that seems to have drifted. `is_listed`: the API listed it."""

    voucher_id: UUID
    code_id: UUID
    is_listed: bool


class Usable(StrEnum):
    """When a code may be used: a search that finds one by its value may not find others."""

    NOW = "now"
    NO_MORE = "no more"
    NOT_YET = "not yet"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """A code of a voucher, as it is mirrored. `usable` is None where nothing tells that a search by value finds it, or
    that a window shows it once it has changed.
    """

    voucher_id: UUID
    service_id: UUID
    value: str | None
    usable: Usable | None


async def clear_slice(tx: AsyncConnection, connection: str, voucher_ids: Sequence[UUID]) -> bool:
    """Forget some candidates of vouchers; whether there is more.

    In the order of the primary key: without statistics of a table that was just filled, another way may take minutes.
    """
    code_id = audit_candidates.c.code_id
    of_these = [audit_candidates.c.connection == connection, _is_of(voucher_ids)]
    ordered = select(code_id).where(*of_these).order_by(code_id)
    last = (await tx.execute(ordered.offset(SLICE - 1).limit(1))).scalar()
    if last is not None:
        of_these.append(code_id <= last)
    await tx.execute(delete(audit_candidates).where(*of_these))
    return last is not None


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


async def unlisted_of(tx: AsyncConnection, connection: str, voucher_ids: Sequence[UUID]) -> set[UUID]:
    """The codes of vouchers that the API did not list."""
    query = select(audit_candidates.c.code_id).where(*_unlisted_of(connection), _is_of(voucher_ids))
    return set((await tx.execute(query)).scalars())


async def load_unlisted(
    tx: AsyncConnection, connection: str, voucher_ids: Sequence[UUID], server_utc: datetime
) -> list[Mirrored]:
    """The codes of vouchers that the API did not list; `server_utc` is its time."""
    code, vouchers_ = voucher_codes.c, audit_candidates.c.voucher_id
    of_voucher = join(audit_candidates, vouchers, vouchers.c.id == vouchers_)
    of_code = outerjoin(of_voucher, voucher_codes, code.id == audit_candidates.c.code_id)
    columns = (vouchers_, vouchers.c.service_id, code.value, _usable(server_utc))
    query = select(*columns).select_from(of_code).where(*_unlisted_of(connection), _is_of(voucher_ids))
    return [_mirrored(row) for row in await tx.execute(query)]


async def load_listed(
    tx: AsyncConnection, connection: str, voucher_ids: Sequence[UUID], usable: Usable, server_utc: datetime
) -> list[Mirrored]:
    """Of each of these vouchers a code that the API did list, and may be used when `usable` says, if it has any whose
    value no other code has.
    """
    code, other = voucher_codes.c, voucher_codes.alias().c
    is_candidate = exists().where(
        audit_candidates.c.connection == connection,
        audit_candidates.c.voucher_id == code.voucher_id,
        audit_candidates.c.code_id == code.id,
    )
    has_same_value = exists().where(other.value == code.value, other.id != code.id)
    is_listed = (code.missing_since.is_(None), ~is_candidate, ~has_same_value)
    of_voucher = (code.voucher_id == vouchers.c.id, _usable(server_utc) == usable)
    one = select(code.value).where(*of_voucher, *is_listed).limit(1).lateral()
    columns = (vouchers.c.id, vouchers.c.service_id, one.c.value, literal(str(usable)))
    query = select(*columns).select_from(join(vouchers, one, true())).where(is_one_of(vouchers.c.id, voucher_ids))
    return [_mirrored(row) for row in await tx.execute(query)]


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


def _usable(server_utc: datetime) -> ColumnElement[str | None]:
    """As `Mirrored.usable`. A day of a hotel may have begun or ended sooner or later than the API's clock shows."""
    code, day = voucher_codes.c, timedelta(days=1)
    starts, ends = code.validity_start_utc, code.validity_end_utc
    is_found = and_(code.is_active, func.coalesce(code.value, "") != "", code.updated_utc.is_not(None))
    has_begun = or_(starts.is_(None), starts < server_utc - day)
    return case(
        (~is_found, None),
        (ends < server_utc - day, Usable.NO_MORE),
        (starts > server_utc + day, Usable.NOT_YET),
        (and_(has_begun, or_(ends.is_(None), ends > server_utc + day)), Usable.NOW),
    )


def _mirrored(row: Sequence[Any]) -> Mirrored:
    voucher_id, service_id, value, usable = row
    return Mirrored(voucher_id, service_id, value, usable and Usable(usable))
