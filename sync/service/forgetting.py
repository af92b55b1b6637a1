"""What the daemon keeps of the past, and for how long."""

from datetime import timedelta

from sqlalchemy import ColumnElement, Table, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.fleet import caught_up
from sync.fleet.tables import daemons
from sync.service.tables import outages, request_failures, runs, samples

MAX_FORGOTTEN = 10_000
"""Rows of each table at a time."""
KEPT: tuple[tuple[Table, ColumnElement[object], timedelta], ...] = (
    (runs, runs.c.finished_at, timedelta(days=30)),
    (samples, samples.c.at, timedelta(days=31)),
    (request_failures, request_failures.c.last_at, timedelta(days=30)),
    (outages, outages.c.ended_at, timedelta(days=90)),
    # One that was killed, or lost its database, is told of for a day.
    (daemons, daemons.c.heartbeat_at, timedelta(days=1)),
)


async def forget_old(tx: AsyncConnection) -> None:
    """Forget what is older than it is kept, some at a time."""
    for table, instant, kept in KEPT:
        key = tuple_(*table.primary_key.columns)
        old = select(*table.primary_key.columns).where(instant < func.now() - kept).limit(MAX_FORGOTTEN)
        await tx.execute(delete(table).where(key.in_(old)))
    await caught_up.forget_ended(tx)
