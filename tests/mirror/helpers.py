"""Instants, plans to read, and the functions that keep how far vouchers are mirrored, each in its own transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from sync.mews.limits import Window
from sync.mirror.pending_reads import PendingReads, WindowRead, load_pending_reads
from sync.mirror.upsert import store_vouchers
from sync.mirror.watermarks import complete, keep_cursor, open_plan, save_reduced
from sync.mirror.windows import Plan, ReadLimits
from sync.postgres.engine import transaction
from tests.support.database import CONNECTION, make_known, rows, voucher
from tests.support.instants import utc

BOUNDS = [utc(2026, month, 1) for month in range(1, 6)]
WINDOWS = tuple(Window(start, end) for start, end in pairwise(BOUNDS))
START, END = BOUNDS[0], BOUNDS[-1]
USUAL = ReadLimits()
SLOWER = ReadLimits(125, timedelta(days=14))
PARTS = Window(BOUNDS[1], utc(2026, 2, 15)), Window(utc(2026, 2, 15), BOUNDS[2])
"""Of the second window."""
TABLES = ("sync.watermarks", "sync.plans", "sync.windows")
OLD, NEW, NEWEST = utc(2026, 1, 1), utc(2026, 1, 1, 0, 0, 1), utc(2026, 1, 2)


def backfill(*voucher_ids: UUID, windows: Sequence[Window] = WINDOWS, read_limits: ReadLimits = USUAL) -> Plan:
    return Plan(voucher_ids, tuple(windows), read_limits, is_backfill=True)


def incremental(*voucher_ids: UUID, windows: Sequence[Window] = WINDOWS) -> Plan:
    return Plan(voucher_ids, tuple(windows), USUAL, is_backfill=False)


@dataclass(frozen=True, slots=True)
class Database:
    """The functions under test, each in a transaction of its own."""

    engine: AsyncEngine

    async def know(self, *numbers: int, created_utc: datetime | None = START, connection: str = CONNECTION) -> None:
        async with transaction(self.engine) as tx:
            await make_known(tx, connection)
            await store_vouchers(tx, connection, [voucher(one, created_utc=created_utc) for one in numbers])

    async def open(self, plan: Plan, connection: str = CONNECTION) -> list[WindowRead]:
        async with transaction(self.engine) as tx:
            return await open_plan(tx, connection, plan)

    async def complete(self, reading: WindowRead) -> None:
        async with transaction(self.engine) as tx:
            await complete(tx, reading)

    async def keep_cursor(self, reading: WindowRead, cursor: UUID | None) -> WindowRead:
        async with transaction(self.engine) as tx:
            return await keep_cursor(tx, CONNECTION, reading, cursor)

    async def save_reduced(self, reading: WindowRead, read_limits: ReadLimits, *parts: Window) -> list[WindowRead]:
        async with transaction(self.engine) as tx:
            return await save_reduced(tx, CONNECTION, reading, read_limits, parts)

    async def work(self, connection: str = CONNECTION) -> PendingReads:
        async with transaction(self.engine) as tx:
            return await load_pending_reads(tx, connection)

    async def read_to(self, end: datetime, *voucher_ids: UUID) -> None:
        """Mirrors vouchers from `START` to `end`."""
        (reading,) = await self.open(backfill(*voucher_ids, windows=[Window(START, end)]))
        await self.complete(reading)

    async def marks(self) -> dict[int, datetime]:
        found = await rows(self.engine, "SELECT voucher_id, complete_through FROM sync.watermarks")
        return {row["voucher_id"].int: row["complete_through"] for row in found}

    async def is_idle(self) -> bool:
        """Whether no plan and no window is left."""
        left = "SELECT id FROM sync.plans UNION ALL SELECT plan_id FROM sync.windows"
        return not await rows(self.engine, left)
