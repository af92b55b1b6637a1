"""Claiming what is due: which rows are sent, and which need no call."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.incarnation import Incarnation
from sync.connection.tenure import Tenure
from sync.mirror.freshness import MirrorFreshness
from sync.outbox import claims, delete_guard, gap, lookups, moved
from sync.outbox import due as outbox_due
from sync.outbox.claims import Attempt, Lane
from sync.outbox.completion import complete
from sync.outbox.delete_guard import DeleteGuardRule, Suspicious
from sync.outbox.each_row import Written
from sync.outbox.look import NOTHING, Seen
from sync.outbox.outcomes import resolve_unsent
from sync.outbox.rules import Decision, Fail, Operation, Row, Send, Stands, Status, Wait, resolve_delete, send_together

RECHECK_AFTER = timedelta(seconds=5)
"""How soon a delete is looked at again whose code the mirror has not seen yet."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Claimed rows that go in one call, and the attempt that they are claimed for."""

    attempt: Attempt
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a claim goes by: how many rows it takes at most, and what is known.

    `without`: rows that are left alone. `seen`: by the look that found the lane; `locked`: what it has locked, of this
    lane alone, where it was taken in the same transaction.
    """

    limit: int
    freshness: MirrorFreshness
    incarnation: Incarnation
    delete_guards: Sequence[DeleteGuardRule]
    without: Collection[int] = ()
    seen: Seen = NOTHING
    tenure: Tenure = field(default_factory=Tenure)
    locked: Sequence[Row] | None = None


@dataclass(frozen=True, slots=True)
class Dispatched:
    """What became of due rows: those of the `batch` are to be sent, if there are any.

    `done` and `failed`: how many were completed without a call; `waiting`: for the mirror; `held`: before a gap, or by
    the delete guard. `refused`: how many rest, since something on the table refuses to have them changed; `set_aside`:
    those in which not even that can be noted. `has_more`: others may be due. `position`: the database's with this
    claim; None where nothing is sent. `suspicious_because`: why more of the lane is to be held before anything is sent.
    """

    batch: Batch
    done: int
    failed: int
    waiting: int
    held: int
    refused: int
    set_aside: Collection[int]
    has_more: bool
    position: int | None
    suspicious_because: str | None = None


async def claim_due(tx: AsyncConnection, attempt: Attempt, terms: Terms) -> Dispatched:
    """Claim what is due of a lane and to be sent, for an attempt, and complete or put off the rest of it.

    `IncarnationChanged` where the database may be another one than was found, `Stopped` where the tenure is over.
    """
    witnessed = terms.incarnation.witnessed()
    held, suspicious = await _hold(tx, attempt.lane, terms)
    is_held_up = suspicious.more_because is not None or suspicious.is_undecided
    due = [] if is_held_up else await _lock_due(tx, attempt.lane, terms, held)
    anothers = [row.id for row in due if row.is_anothers]
    refused = (await moved.hand_on(tx, anothers)).unwritten(anothers)
    rows = send_together([row for row in due if not row.is_anothers])
    decisions = await _decide(tx, attempt, rows, terms) if rows else {}
    waiting = [row_id for row_id, one in decisions.items() if isinstance(one, Wait)]
    refused |= (await claims.postpone(tx, waiting, RECHECK_AFTER)).refused
    done, failed, uncompleted = await _complete_unsent(tx, attempt.id, rows, decisions)
    sent = {row_id: one.voucher_code_id for row_id, one in decisions.items() if isinstance(one, Send)}
    # Nothing is sent that was not claimed, whoever kept it from being claimed.
    claimed = await claims.claim(tx, attempt, sent, terms.tenure) if sent else Written()
    refused |= uncompleted | claimed.unwritten(sent)
    set_aside = [*await claims.set_aside(tx, refused), *held.refused]
    # Last, since others wait from here to the commit.
    position = await terms.incarnation.advance(tx, await witnessed) if claimed.ids else None
    if position is None:
        await terms.incarnation.confirm(tx)
    mine = [
        replace(row, target_code_id=sent[row.id], attempts=row.attempts + 1) for row in rows if row.id in claimed.ids
    ]
    return Dispatched(
        Batch(attempt, mine),
        done=done,
        failed=failed,
        waiting=len(waiting),
        held=len(held.ids),
        refused=len(refused),
        set_aside=set_aside,
        has_more=len(due) >= terms.limit or len(rows) < len(due) or suspicious.is_undecided,
        position=position,
        suspicious_because=suspicious.more_because,
    )


async def _hold(tx: AsyncConnection, lane: Lane, terms: Terms) -> tuple[Written, Suspicious]:
    """Hold what was queued before a gap, and deletes that are too many: all that is held, and what is of those."""
    held = await gap.hold_before_gap(tx, terms.incarnation.worked_with)
    if lane.operation is not Operation.DELETE:
        return held, Suspicious()
    found = await delete_guard.hold_suspicious(tx, lane.connection, terms.delete_guards, terms.seen.since)
    return Written(held.ids | found.held.ids, held.refused | found.held.refused), found


async def _lock_due(tx: AsyncConnection, lane: Lane, terms: Terms, held: Written) -> list[Row]:
    """What may go, without what was `held` just now, and without what something refuses to have held."""
    locked, seen = terms.locked, terms.seen
    if locked is not None and seen.are_few and len(locked) < terms.limit:
        due = [row for row in locked if row.id not in held.ids | held.refused.keys()]
    else:
        without = {*terms.without, *held.refused}
        wanted = outbox_due.Wanted(lane, terms.limit, without, seen.since)
        due = await outbox_due.lock_due(tx, wanted, are_few=seen.are_few)
    terms.incarnation.refuse_put_back(row.created_at for row in due)
    return due


async def _decide(tx: AsyncConnection, attempt: Attempt, rows: Sequence[Row], terms: Terms) -> dict[int, Decision]:
    if attempt.lane.operation is Operation.ADD:
        # A pull may have found what an earlier attempt made only after a look had missed it.
        mirrored = [row for row in rows if row.may_be_mirrored]
        unknown = [row.id for row in mirrored if row.unknown_since_utc]
        made = await lookups.made_since_queued(tx, [row.id for row in mirrored], attempt.server_utc)
        made |= await lookups.made_for(tx, unknown, usable_only=True)
        return {row.id: Stands(made[row.id]) if row.id in made else Send() for row in rows}
    named, as_of = await lookups.named_by(tx, rows), terms.freshness.complete_as_of
    decided = {row.id: resolve_delete(*named[row.id], mirror_is_fresh=_is_fresh_for(row, as_of)) for row in rows}
    read_as_of = terms.freshness.caught_up_as_of
    missed = [row for row in rows if not named[row.id][0] and not isinstance(decided[row.id], Wait)]
    if read_as_of and missed:
        unread = await lookups.unread_vouchers(tx, [row.voucher_id for row in missed if row.voucher_id], read_as_of)
        decided |= {row.id: Wait() for row in missed if row.voucher_id in unread}
        # Of one that no pull reads an older code of the same value proves nothing either.
        hidden = await gap.hidden(tx, [row.id for row in missed if row.voucher_code_id is None])
        decided |= {row_id: Fail(moved.HIDDEN) for row_id in hidden}
    return decided


def _is_fresh_for(row: Row, as_of: datetime | None) -> bool:
    """Whether the mirror shows what there was when a row was queued, or last changed by hand, as by a retry."""
    return as_of is not None and max(row.created_at, row.changed_at or row.created_at) <= as_of


async def _complete_unsent(
    tx: AsyncConnection, attempt_id: UUID, rows: Sequence[Row], decisions: Mapping[int, Decision]
) -> tuple[int, int, dict[int, str]]:
    """How many stand, how many failed, and what is refused."""
    decided = [row.id for row in rows if isinstance(decisions[row.id], Stands | Fail)]
    claimed = await claims.claim_unsent(tx, attempt_id, decided)
    resolved = resolve_unsent([row for row in rows if row.id in claimed.ids], decisions)
    counts = (await complete(tx, attempt_id, resolved)).counts if claimed.ids else Counter()
    return counts[Status.DONE], counts[Status.FAILED], claimed.unwritten(decided)
