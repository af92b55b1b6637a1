"""Mending what an audit found: only rows that nobody has written since they were compared."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Update, bindparam, column, func, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mews.records import VoucherCode
from sync.mirror.tables import voucher_codes
from sync.postgres.metadata import TIMESTAMP

COMPARED = "compared_at"
NOT_GUARDED = {"missing_since": None, "delete_noted_at": None}


async def overwrite(tx: AsyncConnection, records: Sequence[tuple[VoucherCode, datetime]]) -> int:
    """Bring rows to what the API says, even where the mirror's seem fresher; how many that wrote.

    Each code comes with the row's `mirrored_at` as it was compared.
    """
    if not records:
        return 0
    columns = zip(VoucherCode._fields, map(list, zip(*(code for code, _ in records), strict=True)), strict=True)
    parameters = {f"given_{name}": values for name, values in columns}
    parameters[f"given_{COMPARED}"] = [instant for _, instant in records]
    return (await tx.execute(_OVERWRITE, parameters)).rowcount


async def mark_missing(tx: AsyncConnection, records: Sequence[tuple[UUID, datetime]]) -> int:
    """Note codes that the API no longer has, each with its row's `mirrored_at` as it was compared; how many."""
    if not records:
        return 0
    parameters = {"given_id": [one for one, _ in records], f"given_{COMPARED}": [instant for _, instant in records]}
    return (await tx.execute(_MARK_MISSING, parameters)).rowcount


def _given(types: dict[str, Any]) -> Any:
    arrays = [bindparam(f"given_{name}", type_=ARRAY(type_)) for name, type_ in types.items()]
    return (
        func.unnest(*arrays)
        .table_valued(*(column(name, type_) for name, type_ in types.items()))
        .render_derived(name="given")
    )


def _unchanged(given: Any, values: dict[str, Any]) -> Update:
    is_the_same = (voucher_codes.c.id == given.c.id, voucher_codes.c.mirrored_at == given.c[COMPARED])
    return update(voucher_codes).where(*is_the_same).values({**values, "mirrored_at": func.clock_timestamp()})


def _overwrite() -> Update:
    given = _given({name: voucher_codes.c[name].type for name in VoucherCode._fields} | {COMPARED: TIMESTAMP})
    return _unchanged(given, {name: given.c[name] for name in VoucherCode._fields} | NOT_GUARDED)


def _mark_missing() -> Update:
    return _unchanged(_given({"id": UUID_TYPE, COMPARED: TIMESTAMP}), {"missing_since": func.now()})


_OVERWRITE = _overwrite()
_MARK_MISSING = _mark_missing()
