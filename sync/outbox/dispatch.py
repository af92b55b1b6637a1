"""Claiming what is due: which rows are sent, and which need no call."""

from collections import Counter
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.gaps import Known
from sync.connection.incarnation import Incarnation
from sync.connection.tenure import Tenure
from sync.outbox import claims, delete_guard, gap, lookups
from sync.outbox import due as outbox_due
from sync.outbox.claims import ANYBODY, Lane, Position
from sync.outbox.completion import complete
from sync.outbox.delete_guard import DeleteGuardRule
from sync.outbox.each_row import KEPT, Written
from sync.outbox.look import NOTHING, Seen
from sync.outbox.outcomes import resolve_unsent
from sync.outbox.rules import Decision, Fail, Operation, Row, Send, Stands, Status, Wait, resolve_delete, send_together

RECHECK_AFTER = timedelta(seconds=5)
"""How soon a delete is looked at again whose code the mirror has not seen yet."""


@dataclass(frozen=True, slots=True)
class MirrorFreshness:
    """When the last whole discovery, and the last pull that caught up, began, by the database's clock; None: never.

    `visible_after`: how long what was written may stay hidden from a pull, which also reads whole seconds only.
    `checked`: the finding of the database's identity that this pull began after.
    """

    discovered_as_of: datetime | None = None
    caught_up_as_of: datetime | None = None
    visible_after: timedelta = timedelta()
    checked: int | None = None

    @property
    def complete_as_of(self) -> datetime | None:
        """What was written by this instant must stand in the mirror."""
        return self.caught_up_as_of and self.caught_up_as_of - self.visible_after


@dataclass(frozen=True, slots=True)
class Batch:
    """Claimed rows that go in one call. `server_utc` is the API's time when they were claimed, and not later.

    `done` and `failed`: how many more were completed without a call, and `held`: for what reason soever. `refused`: how
    many rest, since something on the table refuses to have them changed; `set_aside`: those in which not even that can
    be noted. `has_more`: others may be due. `position`: the database's with this claim; None where nothing is sent.
    """

    attempt_id: UUID
    lane: Lane
    rows: Sequence[Row]
    server_utc: datetime
    done: int = 0
    failed: int = 0
    waiting: int = 0
    held: int = 0
    refused: int = 0
    set_aside: Collection[int] = ()
    has_more: bool = False
    position: int | None = None


async def claim_due(
    tx: AsyncConnection,
    lane: Lane,
    *,
    limit: int,
    lease: timedelta,
    server_utc: datetime,
    freshness: MirrorFreshness,
    incarnation: Incarnation,
    rules: Sequence[DeleteGuardRule],
    without: Collection[int] = (),
    seen: Seen = NOTHING,
    tenure: Tenure = ANYBODY,
) -> Batch:
    """Claim up to `limit` due rows of a lane that a look has `seen`, but for `without`; no rows where none are sent.
    `IncarnationChanged` where the database may be another than `incarnation` found, `Stopped` where `tenure` is over.
    """
    attempt_id, witnessed = uuid4(), incarnation.witnessed()
    held = await _hold(tx, lane, incarnation.worked_with, rules, seen.since)
    rows = send_together(due := await _lock_due(tx, lane, limit, {*without, *held.refused}, seen, of=incarnation))
    decisions = await _decide(tx, lane.operation, rows, freshness, server_utc) if rows else {}
    sent = {row.id: one.voucher_code_id for row in rows if isinstance(one := decisions[row.id], Send)}
    waiting, refused = await _postpone(tx, decisions)
    done, failed, uncompleted = await _complete_unsent(tx, attempt_id, rows, decisions)
    claimed = await _claim(tx, lane, attempt_id, sent, lease=lease, server_utc=server_utc, tenure=tenure)
    refused |= uncompleted | claimed.refused
    return Batch(
        attempt_id,
        lane,
        [replace(row, target_code_id=sent[row.id], attempts=row.attempts + 1) for row in rows if row.id in claimed.ids],
        server_utc,
        done=done,
        failed=failed,
        waiting=waiting,
        held=len(held.ids),
        refused=len(refused),
        has_more=len(due) >= limit or len(rows) < len(due),
        set_aside=[*await claims.set_aside(tx, refused), *held.refused],
        position=await _still_the_same(tx, incarnation, witnessed, is_sent=bool(claimed.ids)),
    )


async def _postpone(tx: AsyncConnection, decisions: Mapping[int, Decision]) -> tuple[int, dict[int, str]]:
    """How many wait for what the mirror shows next, and what is refused."""
    waiting = [row_id for row_id, one in decisions.items() if isinstance(one, Wait)]
    return len(waiting), (await claims.postpone(tx, waiting, RECHECK_AFTER)).refused


async def _lock_due(
    tx: AsyncConnection, lane: Lane, limit: int, without: Collection[int], seen: Seen, *, of: Incarnation
) -> list[Row]:
    due = await outbox_due.lock_due(tx, lane, limit, without, since=seen.since, are_few=seen.are_few)
    of.refuse_put_back(row.created_at for row in due)
    return due


async def _still_the_same(
    tx: AsyncConnection, incarnation: Incarnation, witnessed: Awaitable[int | None], *, is_sent: bool
) -> int | None:
    """The database's position behind what is sent. Last, since others wait from here to the commit."""
    if is_sent:
        return await incarnation.advance(tx, await witnessed)
    await incarnation.confirm(tx)
    return None


async def _hold(
    tx: AsyncConnection, lane: Lane, known: Known, rules: Sequence[DeleteGuardRule], since: Position
) -> Written:
    """Hold what was queued before a gap, and deletes that are too many."""
    held = await gap.hold_before_gap(tx, known)
    if lane.operation is not Operation.DELETE:
        return held
    suspicious = await delete_guard.hold_suspicious(tx, lane.connection, rules, since)
    return Written(held.ids | suspicious.ids, held.refused | suspicious.refused)


async def _claim(
    tx: AsyncConnection,
    lane: Lane,
    attempt_id: UUID,
    code_ids: Mapping[int, UUID | None],
    *,
    lease: timedelta,
    server_utc: datetime,
    tenure: Tenure,
) -> Written:
    """Claim rows to send; nothing is sent that was not claimed, whoever kept it from being claimed."""
    if not code_ids:
        return Written()
    claimed = await claims.claim(tx, lane, attempt_id, code_ids, lease=lease, server_utc=server_utc, tenure=tenure)
    return Written(claimed.ids, dict.fromkeys(code_ids.keys() - claimed.ids, KEPT) | claimed.refused)


async def _decide(
    tx: AsyncConnection,
    operation: Operation,
    rows: Sequence[Row],
    freshness: MirrorFreshness,
    server_utc: datetime,
) -> dict[int, Decision]:
    if operation is Operation.ADD:
        # A pull may have found what an earlier attempt made only after a look had missed it.
        mirrored = [row for row in rows if row.may_be_mirrored]
        unknown = [row.id for row in mirrored if row.unknown_since_utc]
        made = await lookups.made_since_queued(tx, [row.id for row in mirrored], server_utc)
        made |= await lookups.made_for(tx, unknown, usable_only=True)
        return {row.id: Stands(made[row.id]) if row.id in made else Send() for row in rows}
    named = await lookups.named_by(tx, rows)
    as_of = freshness.complete_as_of
    return {
        row.id: resolve_delete(*named[row.id], mirror_is_fresh=as_of is not None and row.created_at <= as_of)
        for row in rows
    }


async def _complete_unsent(
    tx: AsyncConnection, attempt_id: UUID, rows: Sequence[Row], decisions: Mapping[int, Decision]
) -> tuple[int, int, dict[int, str]]:
    """How many stand, how many failed, and what is refused."""
    decided = [row.id for row in rows if isinstance(decisions[row.id], Stands | Fail)]
    claimed = await claims.claim_unsent(tx, attempt_id, decided)
    refused = dict.fromkeys(set(decided) - claimed.ids, KEPT) | claimed.refused
    resolved = resolve_unsent([row for row in rows if row.id in claimed.ids], decisions)
    counts = (await complete(tx, attempt_id, resolved)).counts if claimed.ids else Counter()
    return counts[Status.DONE], counts[Status.FAILED], refused
