"""The replicas: each writes one row every two seconds, however many connections it works for, and reads the others'."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.os_process import is_gone
from sync.fleet.assignment import Member
from sync.fleet.tables import daemons


@dataclass(frozen=True, slots=True)
class Replica:
    """This process; `settings` by the names of their variables, without secrets, and `pid_space` as it is found."""

    process: UUID
    host: str
    pid: int
    version: str
    revision: str
    settings: dict[str, Any]
    pid_space: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a replica's row says: its last beat, and by what it may be seen that it died."""

    process: UUID
    pid_space: str
    pid: int
    beat: int
    holds_lock: bool
    takes: list[str]

    def is_gone(self, pid_space: str, pid: int) -> bool:
        """Whether it is known to have ended, by a process with the number `pid` of a space.

        A host's name would not do: clones and containers share it, and each number is another process's there.
        """
        if not self.pid_space or self.pid_space != pid_space:
            return False
        if self.pid == pid:  # as in a container, in which every process has the number of the one before
            return True
        return is_gone(self.pid)


async def beat(tx: AsyncConnection, replica: Replica, me: Member, *, holds_lock: bool) -> None:
    """Show that a replica lives: one row, written in place, and as a whole where somebody has taken it away."""
    values = {"beat": daemons.c.beat + 1, "heartbeat_at": func.now(), "holds_lock": holds_lock, "takes": list(me.takes)}
    mine = daemons.c.process == replica.process
    if (await tx.execute(update(daemons).where(mine).values(values))).rowcount == 0:
        whole = {name: getattr(replica, name) for name in Replica.__slots__}
        new = insert(daemons).values(whole | values | {"beat": 1})
        await tx.execute(new.on_conflict_do_update(index_elements=[daemons.c.process], set_={"beat": 1}))


async def load_seen(tx: AsyncConnection) -> Sequence[Seen]:
    """The rows of all replicas that beat; those of a release before this one do not."""
    rows = await tx.execute(select(*(daemons.c[name] for name in Seen.__slots__)).where(daemons.c.beat > 0))
    return [Seen(*row) for row in rows]


async def note_end(tx: AsyncConnection, process: UUID) -> None:
    """Note that a replica ends, by leaving no row."""
    await tx.execute(delete(daemons).where(daemons.c.process == process))


def lock_key(process: UUID) -> int:
    """The number of the advisory lock by which it is seen that a process's session has ended."""
    return int.from_bytes(blake2b(b"replica" + process.bytes, digest_size=8).digest(), signed=True)


async def load_locked(tx: AsyncConnection) -> set[int]:
    """The numbers of the advisory locks that are held in this database, whoever holds them."""
    return set((await tx.execute(_LOCKED)).scalars())


# The lock's number is told in two halves, as it is of pg_advisory_lock with one argument (objsubid 1).
_LOCKED = text("""
SELECT (held.classid::bigint << 32) | held.objid::bigint
FROM pg_catalog.pg_locks AS held JOIN pg_catalog.pg_database AS here ON here.oid = held.database
WHERE held.locktype = 'advisory' AND held.objsubid = 1 AND held.granted AND here.datname = current_database()
""")
