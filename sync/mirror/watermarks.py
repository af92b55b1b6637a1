"""How far each voucher is mirrored, and the windows that are being read.

A window that is not read to its end has a row in `sync.windows`, with the cursor of its last committed page; windows of
one group of vouchers belong to one row of `sync.plans`. A voucher's watermark follows the oldest window of its plan
that is still open, so it never passes an instant whose changes are missing, in whatever order windows end.

An incremental pull that ends with its first page never stands here: it moves the watermarks if it brought news, and
otherwise writes nothing at all. How far such quiet pulls have come is one instant of the connection, noted by the
heartbeat of its replica or by a single cycle (`CaughtUp`); the next pull begins there, and not at the last news.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Delete,
    Integer,
    Text,
    Update,
    any_,
    bindparam,
    column,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.dialects.postgresql.dml import Insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import connections, freshness
from sync.mews.limits import Window
from sync.mirror.pending_reads import Group, WindowRead
from sync.mirror.tables import plans, watermarks, windows
from sync.mirror.windows import Plan, ReadLimits
from sync.postgres.metadata import TIMESTAMP

S = TypeVar("S", Delete, Update)


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A pull that left nothing to read: begun at `as_of` by the database's clock, it reached `through` by the server's.

    Every voucher whose watermark existed at `as_of`, and which was not skipped, is complete through `through`.
    """

    as_of: datetime
    through: datetime


async def open_plan(tx: AsyncConnection, connection: str, plan: Plan) -> list[WindowRead]:
    """Write a plan's windows down as open, and begin the watermarks of vouchers that have none."""
    group = Group(plan.voucher_ids, plan.read_limits)
    await _save_group(tx, connection, group, plan.windows)
    if plan.is_backfill:
        await tx.execute(
            _BEGIN_WATERMARKS,
            {
                "voucher_ids": list(plan.voucher_ids),
                "connection": connection,
                "start": plan.start,
                "page_size": plan.read_limits.page_size,
            },
        )
    return [WindowRead(group, window) for window in plan.windows]


async def extend(tx: AsyncConnection, group: Group, to_read: Sequence[Window]) -> list[WindowRead]:
    """Open more windows of a plan, up to a later end; one takes the place of an open window with the same start.

    None, where another process has read the plan to its end meanwhile.
    """
    if await _lock_plan(tx, group) is None:
        return []
    group.end = to_read[-1].end
    opened = await _open_windows(tx, group, to_read)
    longer = {"end_utc": group.end, "windows_planned": plans.c.windows_planned + len(opened)}
    await tx.execute(update(plans).where(plans.c.id == group.plan_id).values(longer))
    return [WindowRead(group, window) for window in to_read]


async def clamp_to_now(tx: AsyncConnection, connection: str, read_on_from: datetime) -> None:
    """Move watermarks beyond an instant back to it: the server's clock was set back, and will pass there again."""
    is_beyond = (watermarks.c.connection == connection, watermarks.c.complete_through > read_on_from)
    await tx.execute(update(watermarks).where(*is_beyond).values(complete_through=read_on_from))
    is_noted_beyond = (
        connections.c.name == connection,
        freshness.c.name == connections.c.name,
        freshness.c.caught_up_through > read_on_from,
    )
    noted = {"caught_up_as_of": freshness.c.caught_up_as_of, "caught_up_through": read_on_from}
    await tx.execute(update(connections).where(*is_noted_beyond).values(noted))


async def keep_cursor(tx: AsyncConnection, connection: str, reading: WindowRead, cursor: UUID | None) -> WindowRead:
    """Note that a window goes on at `cursor`, or, with None, begins again at its newest page."""
    if reading.group.plan_id is None:
        await _save_group(tx, connection, reading.group, [reading.window])
    await tx.execute(_of_window(update(windows), reading).values(cursor=cursor))
    return replace(reading, cursor=cursor)


async def complete(tx: AsyncConnection, reading: WindowRead) -> None:
    """Note that a window is read to its end, and move the watermarks of its vouchers as far as that lets them."""
    group = reading.group
    if group.plan_id is None:
        await _move_watermarks(tx, group, reading.window.end)
        return
    plan_end = await _lock_plan(tx, group)
    if plan_end is None:  # the plan went with its last voucher, skipped meanwhile
        return
    await tx.execute(_of_window(delete(windows), reading))
    of_plan = windows.c.plan_id == group.plan_id
    oldest_open = (await tx.execute(select(func.min(windows.c.start_utc)).where(of_plan))).scalar_one()
    if oldest_open is None:
        await tx.execute(delete(plans).where(plans.c.id == group.plan_id))
    await _move_watermarks(tx, group, oldest_open or plan_end)


async def save_reduced(
    tx: AsyncConnection, connection: str, reading: WindowRead, read_limits: ReadLimits, parts: Sequence[Window]
) -> list[WindowRead]:
    """Read a group within reduced limits from now on, this window in `parts` that each begin at their newest page.

    A part is left out where a longer window stands already that begins with it.
    """
    group = reading.group
    if group.plan_id is None:
        await _save_group(tx, connection, group, [reading.window])
    if await _lock_plan(tx, group) is None:  # another process has read it to its end meanwhile
        return []
    values = {"page_size": read_limits.page_size, "window_limit": read_limits.window_limit}
    more = {"windows_planned": plans.c.windows_planned + len(parts) - 1}
    await tx.execute(update(plans).where(plans.c.id == group.plan_id).values(**values, **more))
    await tx.execute(update(watermarks).where(_has_voucher_of(group)).values(**values, slowed_at=func.now()))
    await tx.execute(_of_window(delete(windows), reading))
    opened = await _open_windows(tx, group, parts)
    return [WindowRead(group, part) for part in parts if part.start in opened]


async def _save_group(tx: AsyncConnection, connection: str, group: Group, to_read: Sequence[Window]) -> None:
    statement = plans.insert().values(
        connection=connection,
        voucher_ids=list(group.voucher_ids),
        end_utc=to_read[-1].end,
        page_size=group.read_limits.page_size,
        window_limit=group.read_limits.window_limit,
        windows_planned=len(to_read),
    )
    group.plan_id = (await tx.execute(statement.returning(plans.c.id))).scalar_one()
    group.end = to_read[-1].end
    await _open_windows(tx, group, to_read)


async def _open_windows(tx: AsyncConnection, group: Group, to_read: Sequence[Window]) -> set[datetime]:
    """Write windows down as open; the starts of those that did not stand already, as long or longer.

    Two of a plan begin at one instant where a pull began in the very second in which the one before had ended. The
    longer one must stand: the watermark goes to the plan's end as soon as none is open.
    """
    rows = [{"plan_id": group.plan_id, "start_utc": window.start, "end_utc": window.end} for window in to_read]
    new = insert(windows).values(rows)
    longer = {"end_utc": new.excluded.end_utc, "cursor": None}
    upsert = new.on_conflict_do_update(
        index_elements=[windows.c.plan_id, windows.c.start_utc],
        set_=longer,
        where=windows.c.end_utc < new.excluded.end_utc,
    )
    return set((await tx.execute(upsert.returning(windows.c.start_utc))).scalars())


async def _lock_plan(tx: AsyncConnection, group: Group) -> datetime | None:
    # Without this lock, the last two windows of a plan could end at once, each still seeing the other one open.
    statement = select(plans.c.end_utc).where(plans.c.id == group.plan_id).with_for_update()
    end: datetime | None = (await tx.execute(statement)).scalar_one_or_none()
    return end


async def _move_watermarks(tx: AsyncConnection, group: Group, through: datetime) -> None:
    is_behind = watermarks.c.complete_through < through
    statement = update(watermarks).where(_has_voucher_of(group), is_behind).values(complete_through=through)
    await tx.execute(statement)


def _has_voucher_of(group: Group) -> ColumnElement[bool]:
    return watermarks.c.voucher_id == any_(bindparam(None, list(group.voucher_ids), type_=ARRAY(UUID_TYPE)))


def _of_window(statement: S, reading: WindowRead) -> S:
    # With its end: whoever still reads a window that a longer one has replaced must not end that one.
    start, end = windows.c.start_utc == reading.window.start, windows.c.end_utc == reading.window.end
    return statement.where(windows.c.plan_id == reading.group.plan_id, start, end)


def _begin_watermarks() -> Insert:
    array = bindparam("voucher_ids", type_=ARRAY(UUID_TYPE))
    ids = func.pg_catalog.unnest(array).table_valued(column("id", UUID_TYPE)).render_derived(name="planned")
    start = bindparam("start", type_=TIMESTAMP)
    rows = select(ids.c.id, bindparam("connection", type_=Text), start, start, bindparam("page_size", type_=Integer))
    names = ["voucher_id", "connection", "mirrored_from", "complete_through", "page_size"]
    statement = insert(watermarks).from_select(names, rows, include_defaults=False)
    begin = {"mirrored_from": start, "complete_through": start, "first_saved_at": func.now()}
    is_later = watermarks.c.mirrored_from > start
    return statement.on_conflict_do_update(index_elements=[watermarks.c.voucher_id], set_=begin, where=is_later)


_BEGIN_WATERMARKS = _begin_watermarks()
