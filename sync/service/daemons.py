"""The note that each daemon keeps of itself in the database: that it is alive, what it is and how it is set."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.service.tables import daemons


@dataclass(frozen=True, slots=True)
class Daemon:
    """This process; `settings` by the names of their variables, without secrets."""

    process: UUID
    host: str
    pid: int
    version: str
    revision: str
    settings: dict[str, Any]


async def note_alive(tx: AsyncConnection, daemon: Daemon) -> None:
    """Note that a daemon is alive; one row, written in place, and as a whole where somebody has taken it away."""
    values = {name: getattr(daemon, name) for name in Daemon.__slots__}
    beat = {"heartbeat_at": func.now()}
    await tx.execute(
        insert(daemons).values(values).on_conflict_do_update(index_elements=[daemons.c.process], set_=beat)
    )


async def note_end(tx: AsyncConnection, daemon: Daemon) -> None:
    """Note that a daemon ends, by leaving no row."""
    await tx.execute(delete(daemons).where(daemons.c.process == daemon.process))
