"""What a process notes in the rows of connections: whether each works, and how far a single cycle has caught up."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import case, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import connections, freshness
from sync.mirror.watermarks import CaughtUp
from sync.service import outages


@dataclass(frozen=True, slots=True)
class Standing:
    """Why a connection fails, and the name of that kind of error; None and None: it works."""

    error: str | None = None
    kind: str | None = None


async def note(tx: AsyncConnection, name: str, standing: Standing) -> None:
    """Note that a connection works, or why it does not. Writes only a change."""
    state = "failing" if standing.error else "ok"
    since = case((connections.c.state == state, connections.c.state_since), else_=func.now())
    values = {"state": state, "error": standing.error, "error_kind": standing.kind}
    is_new = or_(connections.c.state != state, connections.c.error.is_distinct_from(standing.error))
    statement = insert(connections).values(name=name, **values)
    await tx.execute(
        statement.on_conflict_do_update(
            index_elements=[connections.c.name], set_=values | {"state_since": since}, where=is_new
        )
    )
    await outages.note(tx, name, standing.error)


async def note_caught_up(tx: AsyncConnection, name: str, caught_up: CaughtUp) -> None:
    """Note how far a single cycle has caught up, which leaves no daemon behind."""
    reached = {"caught_up_as_of": caught_up.as_of, "caught_up_through": caught_up.through}
    statement = insert(connections).values(name=name, state="ok", **reached)
    await tx.execute(statement.on_conflict_do_update(index_elements=[connections.c.name], set_=reached))


async def touch(tx: AsyncConnection) -> None:
    """Write what stands there already, to see whether the database takes anything."""
    await tx.execute(update(connections).values(error=connections.c.error))


async def is_daemon_heard(tx: AsyncConnection, within_s: float) -> bool:
    """Whether a daemon has reported for any connection within this time."""
    within = timedelta(seconds=within_s)
    heard = freshness.c.heartbeat_at.between(func.now() - within, func.now() + within)
    return bool((await tx.execute(select(exists().where(heard)))).scalar_one())
