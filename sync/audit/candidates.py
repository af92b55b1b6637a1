"""What an audit is to look at once more before it calls it drifted.

No transaction touches more than a few thousand rows, however many a voucher has, but for the one that notes which codes
of a group of vouchers are not listed; those rows are nobody else's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, and_, column, delete, false, func, join, literal, outerjoin, select
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


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A code that the API did not list. `is_found_by_value`: were it there as it is mirrored, a search would find it,
    and were it changed, a window would show it.
    """

    voucher_id: UUID
    service_id: UUID
    value: str | None
    is_found_by_value: bool


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


async def load_unlisted(tx: AsyncConnection, connection: str, voucher_ids: Sequence[UUID]) -> list[Unlisted]:
    """The codes of vouchers that the API did not list, as they are mirrored."""
    code, vouchers_ = voucher_codes.c, audit_candidates.c.voucher_id
    is_found = and_(code.is_active, func.coalesce(code.value, "") != "", code.updated_utc.is_not(None))
    of_voucher = join(audit_candidates, vouchers, vouchers.c.id == vouchers_)
    of_code = outerjoin(of_voucher, voucher_codes, code.id == audit_candidates.c.code_id)
    columns = (vouchers_, vouchers.c.service_id, code.value, func.coalesce(is_found, false()))
    query = select(*columns).select_from(of_code).where(*_unlisted_of(connection), _is_of(voucher_ids))
    return [Unlisted(*row) for row in await tx.execute(query)]


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
