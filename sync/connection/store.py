"""Which API, which hotels and which token a connection is known to be."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import any_, literal, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import connections, enterprises
from sync.core.errors import VoucherSyncError


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is remembered of a connection; `token` is a fingerprint, and the first three are None where nothing is.

    `seen`: the ids of the hotels that its token saw last, which another connection may mirror.
    """

    platform_address: str | None
    token: bytes | None
    seen: frozenset[UUID] | None
    enterprises: dict[UUID, str]


async def load(tx: AsyncConnection, connection: str) -> Remembered:
    """What is remembered; the hotels are those that it mirrors, or has seen last."""
    columns = (connections.c.platform_address, connections.c.token_fingerprint, connections.c.enterprise_ids)
    row = (await tx.execute(select(*columns).where(connections.c.name == connection))).one_or_none()
    address, token, seen = row if row is not None else (None, None, None)
    is_its = or_(
        enterprises.c.connection == connection, enterprises.c.id == any_(literal(seen or [], ARRAY(UUID_TYPE)))
    )
    hotels = select(enterprises.c.id, enterprises.c.name).where(is_its)
    names = {hotel.id: hotel.name for hotel in await tx.execute(hotels)}
    return Remembered(address, token, None if seen is None else frozenset(seen), names)


async def remember(
    tx: AsyncConnection, connection: str, platform_address: str, token: bytes, seen: Iterable[UUID], *, is_stored: bool
) -> None:
    """Remember an address and a token that are this connection's, and which hotels it sees; of one that was purged
    nothing.
    """
    values = {"platform_address": platform_address, "token_fingerprint": token, "enterprise_ids": sorted(seen)}
    if await is_there(tx, connection, is_stored=is_stored):
        await tx.execute(update(connections).where(connections.c.name == connection).values(values))


async def is_there(tx: AsyncConnection, connection: str, *, is_stored: bool) -> bool:
    """Whether a connection is known, which stays so until the transaction ends; the environment's is made known.

    One that was purged is not made anew by whoever was still at work for it: a row without tokens would keep its name,
    and what it has seen, from every other.
    """
    if not is_stored:
        await tx.execute(insert(connections).values(name=connection, state="ok").on_conflict_do_nothing())
    return await _is_known(tx, connection)


async def refuse_purged(tx: AsyncConnection, connection: str) -> None:
    """`VoucherSyncError` where a connection is not known; else it stays so until the transaction ends.

    Whoever has written rows of it asks this before the commit: `sync.fleet.purge` takes the connection's own row for
    itself before it looks a last time, so that it has either seen them, or they are refused here.
    """
    if not await _is_known(tx, connection):
        raise VoucherSyncError(
            f"connection {connection} was removed with all that it had mirrored (`connections remove --purge`): "
            f"what was just read of it is not kept"
        )


async def _is_known(tx: AsyncConnection, connection: str) -> bool:
    is_its = (connections.c.name == connection, or_(connections.c.added_at.is_not(None), _IS_OF_ENVIRONMENT))
    known = select(connections.c.name).where(*is_its)
    return (await tx.execute(known.with_for_update(read=True, key_share=True))).first() is not None


_IS_OF_ENVIRONMENT = connections.c.origin == "environment"
"""Nobody adds this one; any other was purged where it says of no instant that it was added, see `sync.fleet.purge`."""
