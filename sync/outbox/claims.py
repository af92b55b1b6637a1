"""Claiming rows of the outbox.

A claim is committed before anything is sent. It belongs to an attempt, and only who knows the attempt's id can complete
its rows; once the attempt's time is over its owner counts as dead, and the rows become uncertain.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Interval,
    Text,
    bindparam,
    exists,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.connection import Connection
from sync.connection.server_time import server_now
from sync.connection.set_aside import SET_ASIDE_FOR
from sync.connection.tables import connections
from sync.connection.tenure import Tenure
from sync.core.errors import Stopped
from sync.outbox.each_row import Written, write_each
from sync.outbox.rules import Operation, Status
from sync.outbox.tables import attempts, outbox
from sync.postgres.engine import transaction
from sync.postgres.metadata import TIMESTAMP

LOCK_TIMEOUT = "10s"
"""So long a row in a user's open transaction keeps its neighbours waiting; then a read-back reconciles them."""
ANYBODY = Tenure()


@dataclass(frozen=True, slots=True)
class Lane:
    """Rows that may go in one call: of one connection, one hotel and one operation."""

    connection: str
    operation: Operation
    enterprise_id: UUID | None


class Position(NamedTuple):
    """A place in the order in which rows are due: a `next_attempt_at`, and the number of a row."""

    at: datetime
    id: int


BEGINNING = Position(datetime.min.replace(tzinfo=UTC), 0)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of rows of a lane, for which its owner has until the end of `lease`.

    `server_utc`: the API's time, and not later.
    """

    id: UUID
    lane: Lane
    lease: timedelta
    server_utc: datetime


@asynccontextmanager
async def as_daemon(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that may change the daemon's columns and make its moves, and waits for no lock for long."""
    async with transaction(engine, _BECOME_DAEMON) as tx:
        yield tx


@asynccontextmanager
async def by_index(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """As `as_daemon`, for what finds rows that are due: it is read in the order of an index."""
    async with transaction(engine, f"{_BECOME_DAEMON}; {_UNSORTED}") as tx:
        yield tx


async def server_utc_for(connection: Connection, operation: Operation) -> datetime:
    """The API's time for an attempt. Raises what `server_now` does.

    By it what an add has made is looked up, so a clock that may be wrong must send none. A delete is looked up by its
    code's id, and goes on with the last time that was believed.
    """
    believed = connection.client.server_clock.now()
    if operation is Operation.DELETE and believed is not None:
        return believed
    return await server_now(connection)


async def begin_attempt(tx: AsyncConnection, attempt: Attempt) -> None:
    """Open an attempt."""
    values = {"id": attempt.id, "connection": attempt.lane.connection, "server_utc": attempt.server_utc}
    await tx.execute(insert(attempts).values(**values, until=func.now() + attempt.lease))


async def claim(
    tx: AsyncConnection, attempt: Attempt, code_ids: Mapping[int, UUID | None], tenure: Tenure = ANYBODY
) -> Written:
    """Open an attempt as `begin_attempt` does, and make rows that this transaction has locked `sending`.

    `code_ids` has the rows, a delete's with its code. A code that was found by its value is kept apart from one that
    the row names: another one may be meant next time. `Stopped` where another process has taken the connection since
    this one's `tenure` began.
    """
    parameters = {
        "attempt": attempt.id,
        "connection": attempt.lane.connection,
        "lease": attempt.lease,
        "server_utc": attempt.server_utc,
        "process": tenure.process,
        "epoch": tenure.epoch,
    }

    async def write(row_ids: Sequence[int]) -> Iterable[int]:
        rows = {"ids": list(row_ids), "code_ids": [code_ids[row_id] for row_id in row_ids]}
        return (await tx.execute(_CLAIM, parameters | rows)).scalars()

    claimed = await write_each(tx, list(code_ids), write)
    if not claimed.ids:
        await _confirm(tx, attempt.lane.connection, tenure)
        await end_attempt(tx, attempt.id)
    return claimed


async def _confirm(tx: AsyncConnection, connection: str, tenure: Tenure) -> None:
    """Raise `Stopped` where a tenure is over."""
    if tenure.epoch is None:
        return
    is_owner = (connections.c.owner == tenure.process, connections.c.epoch == tenure.epoch)
    if not (await tx.execute(select(exists().where(connections.c.name == connection, *is_owner)))).scalar_one():
        tenure.is_over = True
        raise Stopped(f"another process works for connection {connection} now")


async def claim_unsent(tx: AsyncConnection, attempt_id: UUID, row_ids: Sequence[int]) -> Written:
    """Make rows that this transaction has locked `sending`, to complete them without sending anything."""
    return await _update_each(tx, row_ids, {"status": Status.SENDING, "attempt_id": attempt_id})


async def move(
    tx: AsyncConnection, from_id: UUID, to: Attempt, row_ids: Sequence[int], *, is_sent: bool = False
) -> set[int]:
    """Move rows from an attempt that had no effect to another, and give both attempts time; the rows that moved.

    What a user holds does not, nor what is refused. `is_sent`: they are sent once more.
    """
    both = attempts.c.id.in_([from_id, to.id])
    # Their difference is the lease, whatever the clock did since the attempt began.
    await tx.execute(update(attempts).where(both).values(started_at=func.now(), until=func.now() + to.lease))
    mine = (outbox.c.id.in_(row_ids), outbox.c.attempt_id == from_id, outbox.c.status == Status.SENDING)
    free = await tx.execute(select(outbox.c.id).where(*mine).with_for_update(key_share=True, skip_locked=True))
    sent = {"attempts": outbox.c.attempts + 1, "sent_at": func.now()} if is_sent else {}
    return (await _update_each(tx, list(free.scalars()), {"attempt_id": to.id, **sent})).ids


async def postpone(tx: AsyncConnection, row_ids: Sequence[int], wait: timedelta, reason: str | None = None) -> Written:
    """Look at rows again later; `reason` says why, unless what they say is still true."""
    later = {"next_attempt_at": func.now() + wait} | ({"last_error": reason} if reason else {})
    return await _update_each(tx, row_ids, later)


async def set_aside(tx: AsyncConnection, refused: Mapping[int, str]) -> set[int]:
    """Leave rows alone for a while, which were refused for these reasons; those that do not even take note of that."""
    noted = set[int]()
    for reason in set(refused.values()):
        row_ids = [row_id for row_id, one in refused.items() if one == reason]
        noted |= (await postpone(tx, row_ids, SET_ASIDE_FOR, reason)).ids
    return set(refused) - noted


async def _update_each(tx: AsyncConnection, row_ids: Sequence[int], values: Mapping[str, Any]) -> Written:
    async def write(row_ids: Sequence[int]) -> Iterable[int]:
        changed = update(outbox).where(outbox.c.id.in_(row_ids)).values(values).returning(outbox.c.id)
        written: Sequence[int] = (await tx.execute(changed)).scalars().all()
        return written

    return await write_each(tx, row_ids, write)


async def end_attempt(tx: AsyncConnection, attempt_id: UUID) -> None:
    """Forget an attempt none of whose rows is open any more."""
    await tx.execute(_END_ATTEMPT, {"attempt": attempt_id})


# A claim that a crash of the server takes back would be sent twice, so its commit waits for the disk. What users have
# put off to the commit (`DEFERRABLE`) is checked row by row, where it can be told which one is refused. And plans that
# are kept for the session, as those of foreign keys, may have been made while the outbox was empty: without an index,
# each row that is completed would have the whole of it read.
_BECOME_DAEMON = f"""
SELECT set_config('voucher_sync.daemon', 'on', true), set_config('lock_timeout', '{LOCK_TIMEOUT}', true),
       set_config('enable_seqscan', 'off', true),
       set_config('synchronous_commit', coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'local'), true);
SET CONSTRAINTS ALL IMMEDIATE
"""

# By statistics of an outbox that was emptied since, a sort seems as cheap as the index, and reads all that waits.
_UNSORTED = "SET LOCAL enable_sort = off"

# All in one trip. Where rows are refused and it runs for some after the other, the attempt is there already.
_CLAIM = text("""
WITH owner AS (
SELECT :epoch IS NULL OR EXISTS (
  SELECT FROM sync.connections WHERE name = :connection AND owner = :process AND epoch = :epoch
) AS is_ours
), attempt AS (
INSERT INTO sync.attempts (id, connection, server_utc, until)
SELECT :attempt, :connection, :server_utc, now() + :lease FROM owner WHERE is_ours ON CONFLICT (id) DO NOTHING
), claimed AS (
UPDATE mews.voucher_code_outbox AS row
SET status = 'sending', attempt_id = :attempt, attempts = row.attempts + 1, sent_at = now(),
    first_sent_utc = coalesce(row.first_sent_utc, :server_utc), first_sent_at = coalesce(row.first_sent_at, now()),
    target_code_id = claimed.code_id
FROM owner, unnest(CAST(:ids AS bigint[]), CAST(:code_ids AS uuid[])) AS claimed(id, code_id)
WHERE row.id = claimed.id AND owner.is_ours
RETURNING row.id, row.status, row.attempt_id
)
SELECT id FROM claimed WHERE status = 'sending' AND attempt_id = :attempt
""").bindparams(
    bindparam("ids", type_=ARRAY(BigInteger)),
    bindparam("code_ids", type_=ARRAY(UUID_TYPE)),
    bindparam("attempt", type_=UUID_TYPE),
    bindparam("connection", type_=Text),
    bindparam("lease", type_=Interval),
    bindparam("server_utc", type_=TIMESTAMP),
    bindparam("process", type_=UUID_TYPE),
    bindparam("epoch", type_=BigInteger),
)

_END_ATTEMPT = text("""
DELETE FROM sync.attempts AS attempt WHERE attempt.id = :attempt AND NOT EXISTS (
  SELECT FROM mews.voucher_code_outbox AS row
  WHERE row.attempt_id = attempt.id AND row.status IN ('sending', 'uncertain')
)
""")
