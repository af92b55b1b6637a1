"""Claiming what is due: which rows are sent, and which need no call."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.db import known_codes, outbox, outbox_due, outbox_upkeep
from sync.db.outbox import Lane, Settlement
from sync.db.outbox_upkeep import BrakeRule
from sync.model.outbox import Decision, Fail, Operation, Row, Send, Stands, Status, Wait, count_together, resolve_delete

LOOK_AGAIN = timedelta(seconds=5)
"""How soon a delete is looked at again whose code the mirror has not seen yet."""
STANDS = Settlement(Status.DONE, "done", was_sent=False)


@dataclass(slots=True)
class Knowledge:
    """When the last whole discovery, and the last pull that caught up, began, by the database's clock; None: never.

    `visible_after`: how long what was written may stay hidden from a pull, which also reads whole seconds only.
    """

    discovered_as_of: datetime | None = None
    caught_up_as_of: datetime | None = None
    visible_after: timedelta = timedelta()

    @property
    def shown_as_of(self) -> datetime | None:
        """What was written by this instant must stand in the mirror."""
        return self.caught_up_as_of and self.caught_up_as_of - self.visible_after


@dataclass(frozen=True, slots=True)
class Batch:
    """Claimed rows that go in one call. `server_utc` is the API's time when they were claimed, and not later.

    `done` and `failed`: how many more were settled without a call, and `held`: by the brake. `has_more`: others may be
    due.
    """

    attempt_id: UUID
    lane: Lane
    rows: Sequence[Row]
    server_utc: datetime
    done: int = 0
    failed: int = 0
    waiting: int = 0
    held: int = 0
    has_more: bool = False


async def claim_due(
    tx: AsyncConnection,
    lane: Lane,
    *,
    limit: int,
    lease: timedelta,
    server_utc: datetime,
    knowledge: Knowledge,
    rules: Sequence[BrakeRule],
) -> Batch:
    """Claim up to `limit` due rows of a lane; without rows to send where there are none."""
    held = await outbox_upkeep.hold_suspicious(tx, lane.connection, rules) if lane.operation is Operation.DELETE else 0
    attempt_id = uuid4()
    due = await outbox_due.lock_due(tx, lane, limit)
    rows = due[: count_together(due)]
    decisions = await _decide(tx, lane.operation, rows, knowledge) if rows else {}
    sent = {row.id: one.voucher_code_id for row in rows if isinstance(one := decisions[row.id], Send)}
    waiting = [row.id for row in rows if isinstance(decisions[row.id], Wait)]
    if waiting:
        await outbox.postpone(tx, waiting, LOOK_AGAIN)
    await _settle_decided(tx, attempt_id, decisions)
    if sent:
        await outbox.begin_attempt(tx, lane, attempt_id, lease=lease, server_utc=server_utc)
        await outbox.claim(tx, attempt_id, sent, server_utc)
    claimed = [replace(row, target_code_id=sent[row.id], attempts=row.attempts + 1) for row in rows if row.id in sent]
    failed = sum(isinstance(one, Fail) for one in decisions.values())
    return Batch(
        attempt_id,
        lane,
        claimed,
        server_utc,
        done=len(rows) - len(sent) - len(waiting) - failed,
        failed=failed,
        waiting=len(waiting),
        held=held,
        has_more=len(due) >= limit or len(rows) < len(due),
    )


async def _decide(
    tx: AsyncConnection, operation: Operation, rows: Sequence[Row], knowledge: Knowledge
) -> dict[int, Decision]:
    if operation is Operation.ADD:
        # A pull may have found what an earlier attempt made only after a look had missed it.
        unknown = [row.id for row in rows if row.unknown_since_utc]
        made = await known_codes.made_for(tx, unknown, usable_only=True)
        return {row.id: Stands(made[row.id]) if row.id in made else Send() for row in rows}
    named = await known_codes.named_by(tx, rows)
    as_of = knowledge.shown_as_of
    return {
        row.id: resolve_delete(*named[row.id], mirror_is_fresh=as_of is not None and row.created_at <= as_of)
        for row in rows
    }


async def _settle_decided(tx: AsyncConnection, attempt_id: UUID, decisions: dict[int, Decision]) -> None:
    stands = {row_id: one.voucher_code_id for row_id, one in decisions.items() if isinstance(one, Stands)}
    failed = {row_id: one.reason for row_id, one in decisions.items() if isinstance(one, Fail)}
    if not stands and not failed:
        return
    await outbox.claim_unsent(tx, attempt_id, [*stands, *failed])
    await outbox.settle(tx, attempt_id, list(stands), STANDS, stands)
    for reason in set(failed.values()):
        row_ids = [row_id for row_id, one in failed.items() if one == reason]
        await outbox.settle(tx, attempt_id, row_ids, Settlement(Status.FAILED, "failed", reason, was_sent=False))
