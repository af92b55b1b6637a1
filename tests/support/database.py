"""What the tests of the database share: rows to store, a look at what stands there, and waiting for a lock."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.tables import connections
from sync.mews.records import Voucher, VoucherCode
from sync.mirror.upsert import store_voucher_codes
from sync.postgres.engine import transaction
from tests.support.instants import utc

CONNECTION = "default"
PATIENCE_S = 30
"""How long a test waits for an event that should come at once."""


def uuid(number: int) -> UUID:
    """An id that tells its number."""
    return UUID(int=number)


def code(number: int, value: str | None = "SUMMER", updated_utc: datetime | None = None, **others: Any) -> VoucherCode:
    """A code with this id."""
    fields: dict[str, Any] = {
        "id": uuid(number),
        "voucher_id": uuid(1000),
        "value": value,
        "validity_start_utc": None,
        "validity_end_utc": None,
        "created_utc": utc(2026, 1, 1),
        "updated_utc": updated_utc,
        "is_active": True,
    }
    return VoucherCode(**{**fields, **others})


def voucher(number: int, *, created_utc: datetime | None = None, **others: Any) -> Voucher:
    """A voucher with this id."""
    fields: dict[str, Any] = {
        "id": uuid(number),
        "service_id": uuid(2000),
        "enterprise_id": uuid(3000),
        "name": "Summer",
        "type": "Public",
        "company_id": None,
        "travel_agency_id": None,
        "occupiable_interval_start_utc": None,
        "occupiable_interval_end_utc": None,
        "external_identifier": None,
        "created_utc": created_utc,
        "updated_utc": utc(2026, 1, 2),
        "is_active": True,
    }
    return Voucher(**{**fields, **others})


async def store(engine: AsyncEngine, *codes: VoucherCode, connection: str = CONNECTION) -> int:
    """Stores a page of codes of a connection; how many rows that wrote."""
    async with transaction(engine) as tx:
        await make_known(tx, connection)
        return await store_voucher_codes(tx, connection, codes)


async def make_known(tx: AsyncConnection, connection: str = CONNECTION) -> None:
    """Makes a connection known, as it is before anything of it is stored."""
    known = insert(connections).values(name=connection, state="ok").on_conflict_do_nothing()
    await tx.execute(known)


async def rows(engine: AsyncEngine, statement: str, **parameters: Any) -> Sequence[RowMapping]:
    """What a query finds."""
    async with transaction(engine) as tx:
        return (await tx.execute(text(statement), parameters)).mappings().all()


async def execute(engine: AsyncEngine, statement: str, **parameters: Any) -> None:
    """Runs a statement that returns nothing."""
    async with transaction(engine) as tx:
        await tx.execute(text(statement), parameters)


async def mirrored(engine: AsyncEngine) -> dict[int, VoucherCode]:
    """The codes that are stored, by the number of their id."""
    names = ", ".join(VoucherCode._fields)
    return {
        row["id"].int: VoucherCode(**row)
        for row in await rows(engine, f"SELECT {names} FROM mews.voucher_codes ORDER BY id")
    }


async def footprint(engine: AsyncEngine, table: str = "mews.voucher_codes") -> list[tuple[str, ...]]:
    """Every row version of a table, with what ever wrote or locked it."""
    found = await rows(engine, f"SELECT ctid::text, xmin::text, xmax::text FROM {table} ORDER BY ctid")
    return [(row["ctid"], row["xmin"], row["xmax"]) for row in found]


async def blocked(engine: AsyncEngine, *tasks: asyncio.Task[Any], sessions: int = 1) -> None:
    """Waits until so many sessions wait for a lock, or one of `tasks` ended without having had to."""
    count = """
        SELECT count(*) AS blocked FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    async with asyncio.timeout(PATIENCE_S):
        while not any(task.done() for task in tasks) and (await rows(engine, count))[0]["blocked"] < sessions:
            pass
