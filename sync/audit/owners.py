"""Who carries out an audit, and whether that process counts as dead, so that another one may go on with it."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Text, and_, case, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE

from sync.audit.tables import audits
from sync.connection.os_process import OsProcess
from sync.connection.tables import connections
from sync.postgres.metadata import UNDER_WAY

ALIVE_FOR = timedelta(minutes=5)
"""An audit that is silent for so long was left by its process, and may be taken over."""
TENURE = "00000000-0000-8000-8000-"
"""How the name of an owner begins who has the connection; its epoch follows, so that a later one's name is greater."""


def name(epoch: int | None) -> UUID:
    """The name of an owner; `epoch`: of its tenure, None for whoever works without owning the connection."""
    return uuid4() if epoch is None else UUID(f"{TENURE}{epoch:012x}")


def describe(owner: UUID) -> str:
    """Which process an owner is: this one. The owner is named, since the release before leaves what it finds there."""
    return f"{owner} {OsProcess.current()}"


def process_told() -> ColumnElement[Any]:
    """What stands of the process of an audit's owner; null where nothing does."""
    is_owners = func.starts_with(audits.c.owner_process, cast(audits.c.owner, Text) + " ")
    return case((is_owners, audits.c.owner_process)).label("process")


def is_gone(process: str | None) -> bool:
    """Whether a process of which this is told is known to have ended, which only one of this machine is."""
    known = OsProcess.parse(process.partition(" ")[2]) if process else None
    return known is not None and known.is_gone()


def describe_silence(process: str | None, left_in: timedelta) -> str:
    """Who carries out an audit, when that was last heard of, and when another one may go on with it; for people."""
    known = OsProcess.parse(process.partition(" ")[2]) if process else None
    where = "this machine" if known and known.is_here else "another machine or container"
    who = f"process {known.pid} of {where}" if known else "its process"
    silent_s, left_s = (one.total_seconds() for one in (ALIVE_FOR - left_in, left_in))
    return (
        f"; {who} carries it out, and was last heard of {max(0.0, silent_s):.0f} s ago; if it has died, it is taken "
        f"over from its own machine at once, and from another one in {max(0.0, left_s):.0f} s"
    )


def is_left() -> ColumnElement[bool]:
    """Whether the owner of an audit counts as dead: silent for too long, last heard by a clock that went back, or a
    replica whose connection another one has by now, which only a dead one's, or one that was given back, becomes.
    """
    is_silent = or_(audits.c.alive_until < func.now(), audits.c.alive_until > func.now() + ALIVE_FOR + UNDER_WAY)
    of_tenure = literal(TENURE) + func.lpad(func.to_hex(connections.c.epoch), 12, "0")
    present = select(cast(of_tenure, UUID_TYPE)).where(connections.c.name == audits.c.connection).correlate(audits)
    first = literal(UUID(f"{TENURE}{0:012x}"), UUID_TYPE)
    return or_(is_silent, and_(audits.c.owner >= first, audits.c.owner < present.scalar_subquery()))
