"""Claiming and completing, as the daemon does, in a transaction of their own."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.incarnation import Incarnation
from sync.connection.witness import Witness
from sync.mirror.freshness import MirrorFreshness
from sync.outbox import claims as product
from sync.outbox import expired_claims
from sync.outbox.claim_watch import ClaimWatch
from sync.outbox.claims import BEGINNING, Attempt, Lane, Position, as_daemon, by_index
from sync.outbox.completion import Completed, complete
from sync.outbox.delete_guard import DeleteGuardRule
from sync.outbox.dispatch import Dispatched, Terms, claim_due
from sync.outbox.due import Wanted, lock_due
from sync.outbox.each_row import at_once
from sync.outbox.look import FEW, NOTHING, Seen, look_and_lock
from sync.outbox.outcomes import Completion
from sync.outbox.rules import Operation, Row, Status, Uncertainty
from tests.support.database import CONNECTION, uuid
from tests.support.queue import ADDS, LEASE, SENT_UTC, Outbox

ONE, OTHER = uuid(1), uuid(2)
SECOND = timedelta(seconds=1)
Lock = Callable[..., Awaitable[list[Row]]]
"""One of the ways to find what may go: `in_turn`, `as_few` or `by_the_look`."""
NO_GUARD = DeleteGuardRule(share=1.0, at_least=10**9, window=timedelta(minutes=10))
DONE = Completion(Status.DONE, "done", None, 200, "request 2")
LOST = Completion(
    Status.UNCERTAIN, "unknown", "the line broke", wait=timedelta(seconds=15), uncertain_because=Uncertainty.UNKNOWN
)
BUSY = Completion(Status.PENDING, "not processed", "too many requests", 429, "request 1", timedelta(seconds=30))
BAD = Completion(Status.FAILED, "refused", "Invalid Value", 400, "request 3")


def attempt_of(attempt_id: UUID = ONE, lane: Lane = ADDS, server_utc: datetime = SENT_UTC) -> Attempt:
    return Attempt(attempt_id, lane, LEASE, server_utc)


async def in_turn(tx: AsyncConnection, since: Position = BEGINNING) -> list[Row]:
    """What may go of the adds, as where there is much."""
    return await lock_due(tx, Wanted(ADDS, FEW, since=since))


async def as_few(tx: AsyncConnection, since: Position = BEGINNING) -> list[Row]:
    """The same, as where all of it fits in a call."""
    return await lock_due(tx, Wanted(ADDS, FEW, since=since), are_few=True)


async def by_the_look(tx: AsyncConnection, since: Position = BEGINNING) -> list[Row]:
    """The same, as where it is all that is found due."""
    return (await look_and_lock(tx, CONNECTION, replace(NOTHING, since=since), without=[]))[1]


async def may_go(outbox: Outbox, lane: Lane = ADDS, limit: int = 100) -> list[int]:
    """What could be claimed now, which is found by a look too, beside that of other lanes."""
    async with as_daemon(outbox.engine) as tx:
        found = [row.id for row in await lock_due(tx, Wanted(lane, limit))]
    async with by_index(outbox.engine) as tx:
        seen, locked = await look_and_lock(tx, lane.connection, NOTHING, without=[])
    looked = {row.id for row in locked}
    assert looked >= {*found} if set(seen.lanes) - {lane} or len(found) == limit else looked == {*found}
    return found


async def claim(
    outbox: Outbox, *row_ids: int, attempt_id: UUID = ONE, lane: Lane = ADDS, codes: Mapping[int, UUID] | None = None
) -> None:
    """Claims rows for an attempt, which is committed."""
    async with as_daemon(outbox.engine) as tx:
        code_ids = {row_id: (codes or {}).get(row_id) for row_id in row_ids}
        await product.claim(tx, attempt_of(attempt_id, lane), code_ids)


async def silent_since_a_lease(tx: AsyncConnection, connection: str) -> ClaimWatch:
    """Who saw the open attempts a lease ago, of which those with time left have shown life since."""
    now_s = 0.0
    watch = ClaimWatch(LEASE, lambda: now_s)
    now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
    signs = await expired_claims.signs_of_life(tx, connection)
    watch.expired(replace(one, until=one.until - SECOND) if one.until > now else one for one in signs)
    now_s = LEASE.total_seconds()
    return watch


async def expire_claims(tx: AsyncConnection, connection: str, wait: timedelta) -> int:
    """Expires claims as such a process does; how many rows."""
    return await expired_claims.expire_claims(tx, connection, await silent_since_a_lease(tx, connection), wait)


async def complete_rows(
    tx: AsyncConnection,
    attempt_id: UUID,
    row_ids: Sequence[int],
    completion: Completion,
    code_ids: Mapping[int, UUID] | None = None,
    *,
    returning: Attempt | None = None,
) -> Completed:
    """Completes rows of an attempt, all alike."""
    rows = [
        Row(row_id, Operation.ADD, None, None, None, None, None, None, 1, SENT_UTC, None, 0, 0) for row_id in row_ids
    ]
    return await complete(tx, attempt_id, [(rows, replace(completion, code_ids=code_ids or {}))], returning=returning)


async def complete_some(
    outbox: Outbox,
    completion: Completion,
    *row_ids: int,
    attempt_id: UUID = ONE,
    codes: Mapping[int, UUID] | None = None,
) -> int:
    """Completes rows of an attempt; how many became what they were to become."""
    async with as_daemon(outbox.engine) as tx:
        return (await complete_rows(tx, attempt_id, row_ids, completion, codes)).counts[completion.status]


async def claim_due_now(
    outbox: Outbox,
    lane: Lane,
    freshness: MirrorFreshness | None = None,
    *,
    limit: int = 100,
    rule: DeleteGuardRule = NO_GUARD,
    without: Sequence[int] = (),
    seen: Seen | None = None,
) -> Dispatched:
    """Claims as the daemon does: what was `seen` before, or in one transaction with a look."""
    incarnation = Incarnation(Witness(None))
    await incarnation.check(outbox.engine)
    terms = Terms(
        limit=limit,
        freshness=freshness or MirrorFreshness(),
        incarnation=incarnation,
        delete_guards=[rule],
        without=without,
        seen=seen or NOTHING,
    )

    attempt = attempt_of(uuid4(), lane)

    async def look_and_claim(tx: AsyncConnection) -> Dispatched:
        found, locked = await look_and_lock(tx, lane.connection, NOTHING, without)
        is_all = found.lanes == [lane]
        return await claim_due(tx, attempt, replace(terms, seen=found, locked=locked) if is_all else terms)

    claim_seen = partial(claim_due, attempt=attempt, terms=terms)
    return await at_once(outbox.engine, claim_seen if seen else look_and_claim, by_index)


def sent(dispatched: Dispatched) -> list[int]:
    return [row.id for row in dispatched.batch.rows]
