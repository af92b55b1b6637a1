"""Which API, which hotels and which token a connection is known to be."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import connections, enterprises


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a connection; `token` is a fingerprint, and the first two are None where nothing is."""

    platform_address: str | None
    token: bytes | None
    enterprises: dict[UUID, str]


async def load(tx: AsyncConnection, connection: str) -> Known:
    """What is remembered; the hotels are those that were ever mirrored."""
    columns = (connections.c.platform_address, connections.c.token_fingerprint)
    row = (await tx.execute(select(*columns).where(connections.c.name == connection))).one_or_none()
    hotels = select(enterprises.c.id, enterprises.c.name).where(enterprises.c.connection == connection)
    names = {hotel.id: hotel.name for hotel in await tx.execute(hotels)}
    return Known(*row, names) if row is not None else Known(None, None, names)


async def remember(tx: AsyncConnection, connection: str, platform_address: str, token: bytes) -> None:
    """Remember an address and a token that are this connection's."""
    values = {"platform_address": platform_address, "token_fingerprint": token}
    statement = insert(connections).values(name=connection, state="ok", **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=[connections.c.name], set_=values))
