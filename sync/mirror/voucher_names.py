"""Vouchers as people call them: found by a name, and listed with the names of what they belong to."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, overload
from uuid import UUID

from sqlalchemy import any_, func, literal, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import enterprises
from sync.core.errors import VoucherSyncError
from sync.core.names import composed
from sync.core.plurals import plural
from sync.core.printable import printable
from sync.mirror.tables import services, voucher_codes, vouchers

MAX_NAMED = 5
"""So many of several vouchers of one name are named."""


@dataclass(frozen=True, slots=True)
class ListedVoucher:
    """A voucher with the names of its service and hotel, and how many codes of it are active, and were ever seen."""

    id: UUID
    name: str | None
    external_identifier: str | None
    service_name: str | None
    enterprise_name: str | None
    is_active: bool
    active_codes: int
    codes: int


class _Called(NamedTuple):
    id: UUID
    is_active: bool
    name: str | None
    external_identifier: str | None


@overload
async def find_voucher(tx: AsyncConnection, named: str) -> UUID: ...


@overload
async def find_voucher(tx: AsyncConnection, named: str | None) -> UUID | None: ...


async def find_voucher(tx: AsyncConnection, named: str | None) -> UUID | None:
    """The id of a voucher that is named by its id, its external identifier or its name; and an id that is not known.

    `VoucherSyncError` where there is none of that name, or more than one of which none or several are active.
    """
    if named is None:
        return None
    given = _as_id(named)
    found = await _called(tx, named, given)
    if given in {one.id for one in found}:
        return given
    active = [one.id for one in found if one.is_active]
    if len(active) == 1 or len(found) == 1:
        return active[0] if active else found[0].id
    if not found and given:
        return given
    if not found:
        raise VoucherSyncError(
            "the mirror knows no voucher of this name or external identifier: see `voucher-sync vouchers`"
        )
    several = ", ".join(str(one.id) for one in found[:MAX_NAMED])
    raise VoucherSyncError(
        f"{plural(len(found), 'voucher')} have this name or external identifier; name one by its id: {several}"
        f"{', ...' if len(found) > MAX_NAMED else ''}"
    )


async def _called(tx: AsyncConnection, named: str, given: UUID | None) -> list[_Called]:
    """The vouchers that have this id, or are called so; where none is, those that look so."""
    columns = (vouchers.c.id, vouchers.c.is_active, vouchers.c.name, vouchers.c.external_identifier)
    is_called_so = or_(vouchers.c.id == given, vouchers.c.external_identifier == named, vouchers.c.name == named)
    if exact := (await tx.execute(select(*columns).where(is_called_so))).all():
        return [_Called(*row) for row in exact]
    if not (looks := _as_shown(named)):
        return []
    every = [_Called(*row) for row in await tx.execute(select(*columns))]
    return [one for one in every if looks in {_as_shown(one.name or ""), _as_shown(one.external_identifier or "")}]


def _as_id(named: str) -> UUID | None:
    try:
        return UUID(named.strip())
    except ValueError:
        return None


def _as_shown(name: str) -> str:
    """A name as somebody may have it from a list: blanks at its ends, or several, are seen by nobody."""
    return " ".join(composed(printable(name)).split())


async def names_of(tx: AsyncConnection, voucher_ids: Collection[UUID]) -> dict[UUID, str]:
    """What those vouchers are called that have a name."""
    named = (vouchers.c.id == any_(literal(list(voucher_ids), ARRAY(UUID_TYPE))), vouchers.c.name.is_not(None))
    return {row.id: row.name for row in await tx.execute(select(vouchers.c.id, vouchers.c.name).where(*named))}


async def list_vouchers(tx: AsyncConnection, *, with_deleted: bool) -> list[ListedVoucher]:
    """Every voucher, by the names of hotel and voucher."""
    is_usable = voucher_codes.c.is_active & voucher_codes.c.missing_since.is_(None)
    counted = (
        select(
            voucher_codes.c.voucher_id,
            func.count().filter(is_usable).label("active_codes"),
            func.count().label("codes"),
        )
        .group_by(voucher_codes.c.voucher_id)
        .subquery("counted")
    )
    statement = (
        select(
            vouchers.c.id,
            vouchers.c.name,
            vouchers.c.external_identifier,
            services.c.name.label("service_name"),
            enterprises.c.name.label("enterprise_name"),
            vouchers.c.is_active,
            func.coalesce(counted.c.active_codes, 0).label("active_codes"),
            func.coalesce(counted.c.codes, 0).label("codes"),
        )
        .outerjoin(services, services.c.id == vouchers.c.service_id)
        .outerjoin(enterprises, enterprises.c.id == vouchers.c.enterprise_id)
        .outerjoin(counted, counted.c.voucher_id == vouchers.c.id)
        .where(true() if with_deleted else vouchers.c.is_active)
        .order_by(enterprises.c.name, vouchers.c.name, vouchers.c.id)
    )
    return [ListedVoucher(**row) for row in (await tx.execute(statement)).mappings()]
