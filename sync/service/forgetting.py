"""What the daemon keeps of the past, and for how long."""

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import Column, ColumnElement, Table, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit.tables import audits
from sync.fleet import caught_up
from sync.fleet.tables import daemons
from sync.service.tables import outages, request_failures, runs, samples

MAX_FORGOTTEN = 10_000
"""Rows of each table at a time."""


def _older(instant: Column[object], kept: timedelta) -> ColumnElement[bool]:
    return instant < func.now() - kept


def _has_later() -> ColumnElement[bool]:
    """Whether another audit of the connection has ended since: by the last one it is known when the next is due."""
    later = audits.alias("later")
    of_same = (later.c.connection == audits.c.connection, later.c.id > audits.c.id)
    return select(later.c.id).where(*of_same, later.c.finished_at.is_not(None)).exists()


def _old() -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """Of each table what is forgotten."""
    yield runs, _older(runs.c.finished_at, timedelta(days=30))
    yield samples, _older(samples.c.at, timedelta(days=31))
    yield request_failures, _older(request_failures.c.last_at, timedelta(days=30))
    yield outages, _older(outages.c.ended_at, timedelta(days=90))
    yield audits, _older(audits.c.finished_at, timedelta(days=90)) & _has_later()
    # One that was killed, or lost its database, is told of for a day.
    yield daemons, _older(daemons.c.heartbeat_at, timedelta(days=1))


async def forget_old(tx: AsyncConnection) -> None:
    """Forget what is older than it is kept, some at a time."""
    for table, is_old in _old():
        key = tuple_(*table.primary_key.columns)
        old = select(*table.primary_key.columns).where(is_old).limit(MAX_FORGOTTEN)
        await tx.execute(delete(table).where(key.in_(old)))
    await caught_up.forget_ended(tx)
