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

from sync.core.plurals import plural
from sync.mirror.tables import voucher_codes
from sync.outbox.claims import BEGINNING, Position
from sync.outbox.each_row import IDS, Written, write_each, write_rows
from sync.outbox.rules import Operation, Status, is_suspicious
from sync.outbox.tables import outbox
from sync.postgres.metadata import TIMESTAMP


@dataclass(frozen=True, slots=True)
class DeleteGuardRule:
    """How many deletes within which time are too many: over `share` of the codes there were, and at least so many."""

    share: float
    at_least: int
    window: timedelta


async def hold_suspicious(
    tx: AsyncConnection, connection: str, rules: Sequence[DeleteGuardRule], since: Position = BEGINNING
) -> Written:
    """Hold the deletes of a connection that queues too many by one of the rules.

    In a transaction that is opened `by_index`. `since`: where the look began after which they would be claimed, which
    passes over what was done before; what waits lies behind it.
    """
    held = Written()
    for rule in rules:
        if reason := await _find_suspicious(tx, connection, rule, since):
            free = select(outbox.c.id).where(*_unreleased(connection)).with_for_update(key_share=True, skip_locked=True)
            row_ids = (await tx.execute(free)).scalars().all()
            more = await write_each(tx, row_ids, partial(write_rows, tx, _HOLD, reason=reason))
            held = Written(held.ids | more.ids, held.refused | more.refused)
    return held


async def _find_suspicious(tx: AsyncConnection, connection: str, rule: DeleteGuardRule, since: Position) -> str | None:
    """Why its deletes are held, if they are."""
    deletes, done = await _count_deletes(tx, connection, rule, since)
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
    within = f"within {rule.window.total_seconds():g} s"
    return (
        f"held: {plural(deletes, f'delete {within} is', f'deletes {within} are')} more than {rule.share:.0%} of the "
        f"{plural(active + done, 'active code')} of this connection; release them with `voucher-sync outbox release`, "
        "or cancel them"
    )


async def _count_deletes(
    tx: AsyncConnection, connection: str, rule: DeleteGuardRule, since: Position
) -> tuple[int, int]:
    """Deletes that nobody has approved: those that wait, with those of the last time; and how many of them are done.

    None at all where none waits: there is nothing to hold then.
    """
    pending = (await tx.execute(_COUNT_UNRELEASED, {"connection": connection, "at": since.at})).scalar_one()
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


# Each delete that was sent has left dead entries in the indexes of what is pending, which stay while somebody's
# transaction is open. The order, which one index alone has, lets it pass over them by their `next_attempt_at`, without
# a look at each row: in the index of what is unreleased there is none.
_COUNT_UNRELEASED = text("""
SELECT count(*) FILTER (WHERE waiting.released_at IS NULL) FROM (
  SELECT row.released_at FROM mews.voucher_code_outbox AS row
  WHERE row.status = 'pending' AND row.connection = :connection AND row.operation = 'delete'
    AND row.next_attempt_at >= :at
  ORDER BY row.enterprise_id, row.next_attempt_at, row.id
) AS waiting
""").bindparams(bindparam("connection", type_=Text), bindparam("at", type_=TIMESTAMP))

_HOLD = text("""
UPDATE mews.voucher_code_outbox SET status = 'held', held_because = 'too_many_deletes', last_error = :reason
WHERE id = ANY (:ids) RETURNING id
""").bindparams(IDS, bindparam("reason", type_=Text))
