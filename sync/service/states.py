"""What a process notes in the rows of connections: whether each works, and how far a single cycle has caught up."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import case, exists, func, or_, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection import store
from sync.connection.tables import connections, freshness
from sync.core.errors import DatabaseError, DatabaseHindered, StatementRefused
from sync.fleet.registry import CONNECTION_NAME
from sync.mirror.watermarks import CaughtUp
from sync.postgres.engine import translate
from sync.service import outages


@dataclass(frozen=True, slots=True)
class Standing:
    """Why a connection fails, and the name of that kind of error; None and None: it works."""

    error: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """What a connection has failed with for so long by now, where the database took no note of it."""

    error: str
    lasted_s: float


async def note(
    tx: AsyncConnection, name: str, standing: Standing | None, missed: Missed | None = None
) -> DatabaseError | None:
    """Note that a connection works, or why it does not. Writes only a change, and nothing of one that was purged.

    `missed`: it has failed until now, or does so since then. None for `standing`: it is not known yet.

    Returns why only its outage could not be noted, which is to be done anew: on a disk without room a new row finds
    none, while the connection's own has its place.
    """
    if not await store.is_there(tx, name, is_stored=name != CONNECTION_NAME):
        return None
    if standing:
        await _note_standing(tx, name, standing, missed)
    try:
        async with tx.begin_nested():
            await _note_outage(tx, name, standing, missed)
    except DBAPIError as error:
        unnoted = translate(error)
        if not isinstance(unnoted, DatabaseHindered | StatementRefused):
            raise
        return unnoted
    return None


async def _note_standing(tx: AsyncConnection, name: str, standing: Standing, missed: Missed | None) -> None:
    state = "failing" if standing.error else "ok"
    failing_since = func.now() - timedelta(seconds=missed.lasted_s if missed and standing.error else 0)
    since = case((connections.c.state == state, connections.c.state_since), else_=failing_since)
    values = {"state": state, "error": standing.error, "error_kind": standing.kind, "state_since": since}
    is_new = or_(connections.c.state != state, connections.c.error.is_distinct_from(standing.error))
    await tx.execute(update(connections).where(connections.c.name == name, is_new).values(values))


async def _note_outage(tx: AsyncConnection, name: str, standing: Standing | None, missed: Missed | None) -> None:
    if missed:
        error = standing.error if standing else None
        await outages.note_missed(tx, name, error or missed.error, missed.lasted_s, is_over=error is None)
    if standing:
        await outages.note(tx, name, standing.error)


async def note_caught_up(tx: AsyncConnection, name: str, caught_up: CaughtUp) -> None:
    """Note how far a single cycle has caught up, which leaves no daemon behind."""
    reached = {"caught_up_as_of": caught_up.as_of, "caught_up_through": caught_up.through}
    if await store.is_there(tx, name, is_stored=name != CONNECTION_NAME):
        await tx.execute(update(connections).where(connections.c.name == name).values(reached))


async def touch(tx: AsyncConnection) -> None:
    """Write what stands there already of one connection, to see whether the database takes anything."""
    first = select(func.min(connections.c.name)).scalar_subquery()
    await tx.execute(update(connections).where(connections.c.name == first).values(error=connections.c.error))


async def is_daemon_heard(tx: AsyncConnection, within_s: float) -> bool:
    """Whether a daemon has reported for any connection within this time."""
    within = timedelta(seconds=within_s)
    heard = freshness.c.heartbeat_at.between(func.now() - within, func.now() + within)
    return bool((await tx.execute(select(exists().where(heard)))).scalar_one())
