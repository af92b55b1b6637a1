"""What a connection has to read, as the database tells it: open windows, vouchers with a watermark, new vouchers.

A pull begins with it, and `watermarks` writes down what comes of that.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import freshness
from sync.mews.limits import Window
from sync.mirror.skipped import is_skipped
from sync.mirror.tables import coverage, plans, vouchers, watermarks, windows
from sync.mirror.windows import REDUCED_FOR, BackfillCandidate, ReadLimits, Watermark


@dataclass(slots=True)
class Group:
    """Vouchers that are read together; what one of their windows teaches about them holds for the others at once.

    `plan_id` and `end`, that of its last window, are None as long as nothing of it stands in the database.
    """

    voucher_ids: tuple[UUID, ...]
    read_limits: ReadLimits
    plan_id: int | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class WindowRead:
    """A window to read for a group of vouchers, from `cursor` on, or from its newest page."""

    group: Group
    window: Window
    cursor: UUID | None = None


@dataclass(frozen=True, slots=True)
class PendingReads:
    """What a connection has to read: windows left open, vouchers with a watermark, and vouchers never read.

    `as_of` is the database's time at which this was so. `through`: the latest instant that anything of it was read to.
    """

    open: list[WindowRead]
    watermarks: list[Watermark]
    candidates: list[BackfillCandidate]
    as_of: datetime
    through: datetime | None


async def load_pending_reads(
    tx: AsyncConnection, connection: str, backfill_from: datetime | None = None
) -> PendingReads:
    """What is to be read for a connection; open windows come oldest first.

    A voucher that is mirrored from later than `backfill_from` on, which was set since, begins anew.
    """
    readings = await _load_open(tx, connection)
    planned = {voucher_id for reading in readings for voucher_id in reading.group.voucher_ids}
    known = (await tx.execute(_KNOWN_VOUCHERS, {"connection": connection})).all()
    free = [row for row in known if row.id not in planned]
    as_of, caught_up_through = (await tx.execute(_NOTED, {"connection": connection})).one()
    begun = [row for row in free if row.mirrored_from and not (backfill_from and backfill_from < row.mirrored_from)]
    begun_ids = {row.id for row in begun}
    return PendingReads(
        readings,
        [Watermark(row.id, row.complete_through, _read_limits(row, as_of)) for row in begun],
        [BackfillCandidate(row.id, row.created_utc) for row in free if row.id not in begun_ids],
        as_of,
        max((one for one in (caught_up_through, *(row.complete_through for row in begun)) if one), default=None),
    )


async def _load_open(tx: AsyncConnection, connection: str) -> list[WindowRead]:
    groups = {
        row.id: Group(tuple(row.voucher_ids), ReadLimits(row.page_size, row.window_limit), row.id, row.end_utc)
        for row in await tx.execute(select(plans).where(plans.c.connection == connection))
    }
    rows = await tx.execute(
        select(windows).where(windows.c.plan_id.in_(groups)).order_by(windows.c.start_utc, windows.c.plan_id)
    )
    return [WindowRead(groups[row.plan_id], Window(row.start_utc, row.end_utc), row.cursor) for row in rows]


def _read_limits(row: Any, as_of: datetime) -> ReadLimits:
    return (
        ReadLimits(row.page_size, row.window_limit)
        if row.slowed_at and row.slowed_at > as_of - REDUCED_FOR
        else ReadLimits()
    )


def _known_vouchers() -> Select[Any]:
    """Vouchers of a connection that are not skipped, with their watermark, if any.

    Through when one is complete, `mews.coverage` says: what quiet pulls have read has one definition, there. Where the
    API hides when a voucher was created, the creation of the connection's oldest voucher stands for it.
    """
    oldest = func.min(vouchers.c.created_utc).over()
    return (
        select(
            vouchers.c.id,
            func.coalesce(vouchers.c.created_utc, oldest).label("created_utc"),
            watermarks.c.mirrored_from,
            coverage.c.complete_through,
            watermarks.c.slowed_at,
            watermarks.c.page_size,
            watermarks.c.window_limit,
        )
        .outerjoin(watermarks, watermarks.c.voucher_id == vouchers.c.id)
        .outerjoin(coverage, coverage.c.voucher_id == watermarks.c.voucher_id)
        .where(vouchers.c.connection == bindparam("connection"), ~is_skipped(vouchers.c.connection, vouchers.c.id))
    )


def _noted() -> Select[Any]:
    of_connection = freshness.c.name == bindparam("connection")
    return select(func.now(), select(freshness.c.caught_up_through).where(of_connection).scalar_subquery())


_NOTED = _noted()
_KNOWN_VOUCHERS = _known_vouchers()
