"""Which connections there are, as replicas see them; read by one statement for all."""

import sys
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Select, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import connections

Origin = Literal["environment", "command", "webhook"]
CONNECTION_NAME = "default"
"""The name of the connection whose tokens come straight from the environment; no stored one is called so."""


@dataclass(frozen=True, slots=True)
class StoredConnection:
    """A row of `sync.connections`; both tokens are as `sync.fleet.tokens` encrypts them.

    One of the environment has none: whose environment has not its tokens cannot work for it. A stored one without a
    client token goes with the environment's, and `platform_address` is None only of the environment's.
    `caught_up_as_of`: of when it was taken, or last given back. `token_fingerprint`: of the token last seen to fit.
    """

    name: str
    origin: Origin
    platform_address: str | None
    access_token: bytes | None
    client_token: bytes | None
    paused_at: datetime | None
    paused_because: str | None
    integration_id: str | None
    owner: UUID | None
    epoch: int
    caught_up_as_of: datetime | None
    token_fingerprint: bytes | None


OF_ENVIRONMENT = StoredConnection(
    CONNECTION_NAME, "environment", None, None, None, None, None, None, None, 0, None, None
)


async def load_active(tx: AsyncConnection) -> list[StoredConnection]:
    """The connections that are neither paused nor removed, by name."""
    return await _load(tx, _PRESENT.where(connections.c.paused_at.is_(None)))


async def load_present(tx: AsyncConnection) -> list[StoredConnection]:
    """The connections that are not removed, by name."""
    return await _load(tx, _PRESENT)


async def register_environment(tx: AsyncConnection) -> None:
    """Have a row for the connection of the environment, so that a replica can own it."""
    await tx.execute(insert(connections).values(name=CONNECTION_NAME, state="ok").on_conflict_do_nothing())
    await revive_environment(tx)


async def revive_environment(tx: AsyncConnection) -> None:
    """Have the connection of the environment back, if it was removed: there are tokens for it again."""
    was_removed = (connections.c.name == CONNECTION_NAME, connections.c.removed_at.is_not(None))
    await tx.execute(update(connections).where(*was_removed).values(removed_at=None, origin="environment"))


# A row without tokens under another name, as somebody may have written it, must not get those of the environment.
_PRESENT = select(*(connections.c[name] for name in StoredConnection.__slots__)).where(
    connections.c.removed_at.is_(None),
    or_(connections.c.origin != "environment", connections.c.name == CONNECTION_NAME),
)


async def _load(tx: AsyncConnection, query: Select[Any]) -> list[StoredConnection]:
    # All that is told of a connection, by whichever statement, is kept under one and the same name.
    rows = await tx.execute(query.order_by(connections.c.name))
    return [StoredConnection(sys.intern(row.name), *row[1:]) for row in rows]
