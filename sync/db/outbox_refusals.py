"""What is noted of calls that were refused or blocked, and what it adds up to."""

from uuid import UUID

from sqlalchemy import Integer, Text, exists, func, literal, select
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.db.outbox import Settlement
from sync.db.outbox_tables import outbox, outbox_attempts
from sync.model.outbox import SINGLED_OUT, Status, Verdict

_NOTED = (UUID_TYPE, Text, Integer, Text, Text)


async def note_refused(tx: AsyncConnection, attempt_id: UUID, settlement: Settlement) -> None:
    """Note an attempt that was refused as a whole, whose rows stay claimed."""
    row = (attempt_id, settlement.outcome, settlement.http_status, settlement.error, settlement.request_id)
    of_attempt = (outbox.c.attempt_id == attempt_id, outbox.c.status == Status.SENDING)
    rows = select(
        outbox.c.id, outbox.c.sent_at, *(literal(value, type_) for value, type_ in zip(row, _NOTED, strict=True))
    )
    names = ["outbox_id", "sent_at", "attempt_id", "outcome", "http_status", "message", "request_id"]
    await tx.execute(
        insert(outbox_attempts)
        .from_select(names, rows.where(*of_attempt), include_defaults=False)
        .on_conflict_do_nothing()
    )


async def count_blocks(tx: AsyncConnection, row_id: int) -> tuple[int, bool]:
    """How often a change was blocked alone since it last failed, and whether its neighbours went through meanwhile."""
    outcome, failures = outbox_attempts.c.outcome, outbox_attempts.alias("failures")
    has_failed_since = exists().where(
        failures.c.outbox_id == row_id,
        failures.c.outcome == Verdict.REFUSED,
        failures.c.sent_at >= outbox_attempts.c.sent_at,
    )
    blocked = outcome.in_([Verdict.BLOCKED, SINGLED_OUT])
    of_row = (outbox_attempts.c.outbox_id == row_id, blocked, ~has_failed_since)
    row = (await tx.execute(select(func.count(), func.bool_or(outcome == SINGLED_OUT)).where(*of_row))).one()
    return row[0], bool(row[1])
