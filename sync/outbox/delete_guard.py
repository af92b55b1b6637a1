"""The guard on deletes: suspiciously many are held until somebody releases them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Interval,
    Text,
    all_,
    bindparam,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.core.plurals import in_seconds, percent, plural
from sync.mirror.tables import voucher_codes
from sync.outbox import moved
from sync.outbox.claims import BEGINNING, Position, by_index
from sync.outbox.due import is_anothers
from sync.outbox.each_row import IDS, KEPT, Written, write_each, write_rows
from sync.outbox.rules import Operation, Status, is_suspicious
from sync.outbox.tables import outbox
from sync.postgres.engine import in_transaction
from sync.postgres.metadata import TIMESTAMP

HELD_AT_ONCE = 10_000
"""As before a gap: one transaction of millions would not end in time."""


@dataclass(frozen=True, slots=True)
class DeleteGuardRule:
    """How many deletes within which time are too many: over `share` of the codes there were, and at least so many."""

    share: float
    at_least: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Suspicious:
    """What was held. `more_because`: why the deletes that wait still are to be held as well; None: there are none.

    `is_undecided`: they were found to be too many, and more of them than a transaction takes are another connection's.
    """

    held: Written = field(default_factory=Written)
    more_because: str | None = None
    is_undecided: bool = False


async def hold_suspicious(
    tx: AsyncConnection, connection: str, rules: Sequence[DeleteGuardRule], since: Position = BEGINNING
) -> Suspicious:
    """Hold the deletes of a connection that queues too many by one of the rules, as many as a transaction takes.

    In a transaction that is opened `by_index`. `since`: where what is due begins, as the last look has
    seen it; what lies before that was done already.
    """
    for rule in rules:
        if await _find_suspicious(tx, connection, rule, since) and await _hand_on_anothers(tx, connection):
            return Suspicious(is_undecided=True)
        if reason := await _find_suspicious(tx, connection, rule, since):
            held, has_more = await _hold_some(tx, connection, reason)
            return Suspicious(held, reason if has_more else None)
    return Suspicious()


async def hold_rest(connection: Connection, reason: str) -> Written:
    """Hold what waits still of deletes that were found suspicious, some at a time, until the service stops.

    Counted again after each part those left would be too few to be held, if they were queued at different times.
    """
    held, has_more = Written(), True
    while has_more and not connection.stop.is_set():
        some = partial(_hold_some, connection=connection.name, reason=reason, without=held.refused)
        more, has_more = await in_transaction(connection.engine, some, by_index)
        held = Written(held.ids | more.ids, held.refused | more.refused)
    return held


async def _hand_on_anothers(tx: AsyncConnection, connection: str) -> bool:
    """What is another connection's by now counts as that one's, among the codes that it has; whether more may be."""
    anothers = select(outbox.c.id).where(*_unreleased(connection), is_anothers()).limit(HELD_AT_ONCE)
    locked = anothers.with_for_update(of=outbox, key_share=True, skip_locked=True)
    row_ids = (await tx.execute(locked)).scalars().all()
    handed = await moved.hand_on(tx, row_ids)
    return len(row_ids) == HELD_AT_ONCE and bool(handed.ids)


async def _hold_some(
    tx: AsyncConnection, connection: str, reason: str, without: Collection[int] = ()
) -> tuple[Written, bool]:
    """What is held, and whether more may wait. What something keeps as it is without a word counts as refused."""
    without_ids = literal([*without], ARRAY(BigInteger))  # in one parameter, of which a statement takes 65,535
    free = select(outbox.c.id).where(*_unreleased(connection), outbox.c.id != all_(without_ids)).limit(HELD_AT_ONCE)
    row_ids = (await tx.execute(free.with_for_update(key_share=True, skip_locked=True))).scalars().all()
    held = await write_each(tx, row_ids, partial(write_rows, tx, _HOLD, reason=reason))
    kept = dict.fromkeys({*row_ids} - held.ids, KEPT)
    return Written(held.ids, kept | held.refused), len(row_ids) == HELD_AT_ONCE


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
    within = f"within {in_seconds(rule.window.total_seconds())}"
    return (
        f"held: {plural(deletes, f'delete {within} is', f'deletes {within} are')} more than {percent(rule.share)} of "
        f"the {plural(active + done, 'active code')} of this connection; release them with `voucher-sync outbox "
        "release`, or cancel them"
    )


async def _count_deletes(
    tx: AsyncConnection, connection: str, rule: DeleteGuardRule, since: Position
) -> tuple[int, int]:
    """Deletes that nobody has approved: those that wait and those of the `window`; and how many of them are done.

    None at all where none waits: there is nothing to hold then. Those that wait for longer than the window may be left
    of a hold that did not end, so that what is held of their time counts too.
    """
    waiting = (await tx.execute(_COUNT_UNRELEASED, {"connection": connection, "at": since.at})).one()
    if not waiting.number:
        return 0, 0
    held = 0
    if waiting.oldest is not None and waiting.oldest < waiting.now - rule.window:
        of_their_time = {"connection": connection, "since": waiting.oldest - rule.window, "before": rule.window}
        held = (await tx.execute(_COUNT_HELD, of_their_time)).scalar_one()
    recent = (
        outbox.c.connection == connection,
        outbox.c.operation == Operation.DELETE,
        outbox.c.created_at > func.now() - rule.window,
        outbox.c.status.not_in([Status.PENDING, Status.CANCELLED, Status.FAILED]),
        outbox.c.released_at.is_(None),
    )
    is_done = outbox.c.status == Status.DONE
    others, done = (await tx.execute(select(func.count(), func.count().filter(is_done)).where(*recent))).one()
    return waiting.number + held + others, done


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
SELECT count(*) FILTER (WHERE waiting.released_at IS NULL) AS number, now() AS now,
       min(waiting.created_at) FILTER (
         WHERE waiting.released_at IS NULL AND waiting.next_attempt_at <= now()) AS oldest
FROM (
  SELECT row.released_at, row.created_at, row.next_attempt_at FROM mews.voucher_code_outbox AS row
  WHERE row.status = 'pending' AND row.connection = :connection AND row.operation = 'delete'
    AND row.next_attempt_at >= :at
  ORDER BY row.enterprise_id, row.next_attempt_at, row.id
) AS waiting
""").bindparams(bindparam("connection", type_=Text), bindparam("at", type_=TIMESTAMP))

_COUNT_HELD = text("""
SELECT count(*) FROM mews.voucher_code_outbox
WHERE status = 'held' AND connection = :connection AND held_because = 'too_many_deletes'
  AND created_at > :since AND created_at <= now() - :before
""").bindparams(
    bindparam("connection", type_=Text), bindparam("since", type_=TIMESTAMP), bindparam("before", type_=Interval)
)

_HOLD = text("""
UPDATE mews.voucher_code_outbox SET status = 'held', held_because = 'too_many_deletes', last_error = :reason
WHERE id = ANY (:ids) RETURNING id
""").bindparams(IDS, bindparam("reason", type_=Text))
