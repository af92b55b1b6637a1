"""The guard on deletes: suspiciously many are held until somebody releases them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from sqlalchemy import (
    ColumnElement,
    Text,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mirror.tables import voucher_codes
from sync.outbox.each_row import IDS, Written, write_each, write_rows
from sync.outbox.rules import Operation, Status, is_suspicious
from sync.outbox.tables import outbox


@dataclass(frozen=True, slots=True)
class DeleteGuardRule:
    """How many deletes within which time are too many: over `share` of the codes there were, and at least so many."""

    share: float
    at_least: int
    window: timedelta


async def hold_suspicious(tx: AsyncConnection, connection: str, rules: Sequence[DeleteGuardRule]) -> Written:
    """Hold the deletes of a connection that queues too many by one of the rules."""
    held = Written()
    for rule in rules:
        if reason := await _find_suspicious(tx, connection, rule):
            free = select(outbox.c.id).where(*_unreleased(connection)).with_for_update(key_share=True, skip_locked=True)
            row_ids = (await tx.execute(free)).scalars().all()
            more = await write_each(tx, row_ids, partial(write_rows, tx, _HOLD, reason=reason))
            held = Written(held.ids | more.ids, held.refused | more.refused)
    return held


async def _find_suspicious(tx: AsyncConnection, connection: str, rule: DeleteGuardRule) -> str | None:
    """Why its deletes are held, if they are."""
    deletes, done = await _count_deletes(tx, connection, rule)
    if deletes < rule.at_least:
        return None
    usable = (
        voucher_codes.c.connection == connection,
        voucher_codes.c.is_active,
        voucher_codes.c.missing_since.is_(None),
    )
    active = (await tx.execute(select(func.count()).select_from(voucher_codes).where(*usable))).scalar_one()
    if not is_suspicious(deletes, active + done, share=rule.share, at_least=rule.at_least):
        return None
    return (
        f"held: {deletes:,} deletes within {rule.window.total_seconds():g} s are more than {rule.share:.0%} of the "
        f"{active + done:,} active codes of this connection; release them with `voucher-sync outbox release`, or "
        "cancel them"
    )


async def _count_deletes(tx: AsyncConnection, connection: str, rule: DeleteGuardRule) -> tuple[int, int]:
    """Deletes that nobody has approved: those that wait, with those of the last time; and how many of them are done.

    None at all where none waits: there is nothing to hold then.
    """
    pending = (await tx.execute(select(func.count()).where(*_unreleased(connection)))).scalar_one()
    if not pending:
        return 0, 0
    recent = (
        outbox.c.connection == connection,
        outbox.c.operation == Operation.DELETE,
        outbox.c.created_at > func.now() - rule.window,
        outbox.c.status.not_in([Status.PENDING, Status.CANCELLED, Status.FAILED]),
        outbox.c.released_at.is_(None),
    )
    is_done = outbox.c.status == Status.DONE
    others, done = (await tx.execute(select(func.count(), func.count().filter(is_done)).where(*recent))).one()
    return pending + others, done


def _unreleased(connection: str) -> tuple[ColumnElement[bool], ...]:
    return (
        outbox.c.connection == connection,
        outbox.c.operation == Operation.DELETE,
        outbox.c.status == Status.PENDING,
        outbox.c.released_at.is_(None),
    )


_HOLD = text("""
UPDATE mews.voucher_code_outbox SET status = 'held', held_because = 'too_many_deletes', last_error = :reason
WHERE id = ANY (:ids) RETURNING id
""").bindparams(IDS, bindparam("reason", type_=Text))
