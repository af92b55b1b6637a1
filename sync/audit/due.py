"""Whether an audit is due: what stands of those that were."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import owners
from sync.audit.tables import audits
from sync.connection.tables import connections
from sync.mirror.tables import watermarks


@dataclass(frozen=True, slots=True)
class Standing:
    """The audits of a connection at the database's `now`.

    `is_open`: one is not finished; `is_left`: and its process has died. `last_at`: when the last one ended or, before
    the first, when there first was something to compare; None: there is nothing yet.
    """

    now: datetime
    is_open: bool
    is_left: bool
    last_at: datetime | None


async def load_standing(tx: AsyncConnection, connection: str) -> Standing:
    """What stands of a connection's audits."""
    return _as_standing(*(await tx.execute(select(*_standing(literal(connection))))).one())


async def load_standings(tx: AsyncConnection) -> Mapping[str, Standing]:
    """The same of all connections, by name."""
    rows = await tx.execute(select(connections.c.name, *_standing(connections.c.name)))
    return {name: _as_standing(*rest) for name, *rest in rows}


def _as_standing(
    now: datetime, is_open: bool, is_left: bool, process: str | None, last_at: datetime | None
) -> Standing:
    return Standing(now, is_open, is_left or owners.is_gone(process), last_at)


def _standing(connection: ColumnElement[str]) -> tuple[ColumnElement[Any], ...]:
    last = select(func.max(audits.c.finished_at)).where(audits.c.connection == connection)
    mirrored = select(func.min(watermarks.c.first_saved_at)).where(watermarks.c.connection == connection)
    is_open = (audits.c.connection == connection, audits.c.finished_at.is_(None))
    open_ = select(audits.c.id).where(*is_open)
    return (
        func.now(),
        open_.exists(),
        open_.where(owners.is_left()).exists(),
        select(owners.process_told()).where(*is_open).scalar_subquery(),
        func.coalesce(last.scalar_subquery(), mirrored.scalar_subquery()),
    )
