"""What a process tells of its connections: that it is alive, how far it has caught up, and what fails."""

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


async def set_state(transaction: AsyncConnection, name: str, standing: Standing) -> None:
    """Note that a connection works, or why it does not. Writes only a change."""
    state, error = _state(standing), standing.error
    statement = insert(connections).values(name=name, state=state["state"], error=error, error_kind=standing.kind)
    is_new = or_(connections.c.state != state["state"], connections.c.error.is_distinct_from(error))
    await transaction.execute(
        statement.on_conflict_do_update(index_elements=[connections.c.name], set_=state, where=is_new)
    )
    await outages.note(transaction, name, error)


async def beat(
    transaction: AsyncConnection, name: str, caught_up: CaughtUp | None, standing: Standing | None = None
) -> None:
    """Note that a daemon is alive, and how far it has caught up; one row, written in place.

    `standing`: None where it is not known yet. Said with every beat, since another process, as a `once` with settings
    of its own, may have noted what it met.
    """
    state = _state(standing) if standing else {}
    await _note(transaction, name, {"heartbeat_at": func.now(), **state}, caught_up)
    if standing:
        await outages.note(transaction, name, standing.error)


async def note_caught_up(transaction: AsyncConnection, name: str, caught_up: CaughtUp) -> None:
    """Note how far a single cycle has caught up, which leaves no daemon behind."""
    await _note(transaction, name, {}, caught_up)


def _state(standing: Standing) -> dict[str, object]:
    """What a connection's row says of its state, since it first was so."""
    state = "failing" if standing.error else "ok"
    since = case((connections.c.state == state, connections.c.state_since), else_=func.now())
    return {"state": state, "error": standing.error, "error_kind": standing.kind, "state_since": since}


async def _note(transaction: AsyncConnection, name: str, values: dict[str, object], caught_up: CaughtUp | None) -> None:
    if caught_up:
        values |= {"caught_up_as_of": caught_up.as_of, "caught_up_through": caught_up.through}
    new = {"name": name, "state": "ok", **values, "state_since": func.now()}
    statement = insert(connections).values(new)
    await transaction.execute(statement.on_conflict_do_update(index_elements=[connections.c.name], set_=values))


async def touch(transaction: AsyncConnection) -> None:
    """Write what stands there already, to see whether the database takes anything."""
    await transaction.execute(update(connections).values(error=connections.c.error))


async def is_daemon_heard(transaction: AsyncConnection, within_s: float) -> bool:
    """Whether a daemon has reported for any connection within this time."""
    within = timedelta(seconds=within_s)
    heard = freshness.c.heartbeat_at.between(func.now() - within, func.now() + within)
    return bool((await transaction.execute(select(exists().where(heard)))).scalar_one())
