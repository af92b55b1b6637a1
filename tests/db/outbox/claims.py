"""Claiming and settling, as the daemon does, in a transaction of their own."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from sync.db import outbox as product
from sync.db.outbox import Lane, Settlement, as_daemon
from sync.db.outbox_upkeep import BrakeRule
from sync.flows.claim import Batch, Knowledge, claim_due
from sync.model.outbox import Status
from tests.db.outbox.rig import ADDS, LEASE, SENT_UTC, Outbox
from tests.db.rig import uuid

ONE, OTHER = uuid(1), uuid(2)
SECOND = timedelta(seconds=1)
NO_BRAKE = BrakeRule(share=1.0, at_least=10**9, window=timedelta(minutes=10))
DONE = Settlement(Status.DONE, "done", None, 200, "request 2")
LOST = Settlement(Status.UNCERTAIN, "unknown", "the line broke", None, None, timedelta(seconds=15))
BUSY = Settlement(Status.PENDING, "not processed", "too many requests", 429, "request 1", timedelta(seconds=30))
BAD = Settlement(Status.FAILED, "refused", "Invalid Value", 400, "request 3")


async def claim(
    outbox: Outbox, *row_ids: int, attempt_id: UUID = ONE, lane: Lane = ADDS, codes: Mapping[int, UUID] | None = None
) -> None:
    """Claims rows for an attempt, which is committed."""
    async with as_daemon(outbox.engine) as tx:
        await product.begin_attempt(tx, lane, attempt_id, lease=LEASE, server_utc=SENT_UTC)
        code_ids = {row_id: (codes or {}).get(row_id) for row_id in row_ids}
        await product.claim(tx, attempt_id, code_ids, SENT_UTC)


async def settle(
    outbox: Outbox,
    settlement: Settlement,
    *row_ids: int,
    attempt_id: UUID = ONE,
    codes: Mapping[int, UUID] | None = None,
) -> int:
    """Settles rows of an attempt."""
    async with as_daemon(outbox.engine) as tx:
        return len((await product.settle(tx, attempt_id, row_ids, settlement, codes)).ids)


async def claim_due_now(
    outbox: Outbox,
    lane: Lane,
    knowledge: Knowledge | None = None,
    *,
    limit: int = 100,
    rule: BrakeRule = NO_BRAKE,
    without: Sequence[int] = (),
) -> Batch:
    async with as_daemon(outbox.engine) as tx:
        return await claim_due(
            tx,
            lane,
            limit=limit,
            lease=LEASE,
            server_utc=SENT_UTC,
            knowledge=knowledge or Knowledge(),
            rules=[rule],
            without=without,
        )


def sent(batch: Batch) -> list[int]:
    return [row.id for row in batch.rows]
