"""What keeps the outbox in order: rows that wait for their voucher, claims of the dead, the brake, and old rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Interval,
    Text,
    TextClause,
    and_,
    any_,
    bindparam,
    exists,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.db.engine import translate
from sync.db.metadata import TIMESTAMP
from sync.db.outbox_each import Written, write_each
from sync.db.outbox_tables import outbox
from sync.db.tables import voucher_codes
from sync.model.errors import StatementRefused
from sync.model.outbox import Operation, Status, Uncertain, Uncertainty, is_suspicious

MAX_UNCERTAIN = 5000
MAX_PRUNED = 10_000
MAX_PRUNED_EACH = 500
"""Of rows some of which must stay, each of those takes a statement or two; more would keep the transaction for long."""
MAX_STRAYS = 20_000
"""So many rows find their connection, or fail, in one transaction, which a million would keep open for 15 s."""


@dataclass(frozen=True, slots=True)
class BrakeRule:
    """How many deletes within which time are too many: over `share` of the codes there were, and at least so many."""

    share: float
    at_least: int
    window: timedelta


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows are gone, and where the next look for old ones goes on: None is at the oldest."""

    count: int
    reached: tuple[datetime, int] | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What rows without a known voucher or code wait for. `more`: some of them could be sorted out at once.

    `failed`: so many have just failed.
    """

    discovery: bool
    pull: bool
    more: bool = False
    failed: int = 0


async def rescue(tx: AsyncConnection, connection: str, wait: timedelta) -> int:
    """Make the claims of the dead uncertain, to be looked up after `wait`, and forget their attempts without any; how
    many rows.
    """
    dead = (await tx.execute(_LOCK_DEAD, {"connection": connection})).scalars().all()
    rescued = len((await write_each(tx, dead, partial(_write, tx, _RESCUE, wait=wait))).ids)
    await tx.execute(_FORGET_EMPTY, {"connection": connection})
    return rescued


async def adopt(tx: AsyncConnection, connection: str) -> bool:
    """Give the connection rows whose voucher or code it has come to know; whether there may be more of them."""
    named = (await tx.execute(_LOCK_NAMED, {"limit": MAX_STRAYS})).scalars().all()
    await write_each(tx, named, partial(_write, tx, _NAME_CODES))
    known = (await tx.execute(_LOCK_KNOWN, {"connection": connection, "limit": MAX_STRAYS})).scalars().all()
    adopted = await write_each(tx, known, partial(_write, tx, _ADOPT))
    return bool(adopted.ids) and max(len(named), len(known)) == MAX_STRAYS


async def fail_unknown(
    tx: AsyncConnection, connection: str, *, discovered_as_of: datetime | None, caught_up_as_of: datetime | None
) -> Waiting:
    """Fail what names a voucher or code that no reading begun since it is due has seen; what the others wait for.

    Both instants are by the database's clock, and None where there was no such reading yet.
    """
    instants = {"discovered": discovered_as_of, "caught_up": caught_up_as_of}
    parameters = {"connection": connection, "limit": MAX_STRAYS, **instants}
    unknown = (await tx.execute(_LOCK_UNKNOWN, parameters)).scalars().all()

    async def fail(row_ids: Sequence[int]) -> Iterable[int]:
        await _write(tx, _CLAIM_UNKNOWN, row_ids, connection=connection)
        return await _write(tx, _FAIL_UNKNOWN, row_ids)

    failed = len((await write_each(tx, unknown, fail)).ids)
    row = (await tx.execute(_WAITING)).one()
    return Waiting(row.discovery, row.pull, more=failed > 0 and len(unknown) == MAX_STRAYS, failed=failed)


async def _write(
    tx: AsyncConnection, statement: TextClause, row_ids: Sequence[int], **parameters: Any
) -> Iterable[int]:
    return (await tx.execute(statement, {"ids": list(row_ids), **parameters})).scalars()


async def load_uncertain(tx: AsyncConnection, connection: str, without: Iterable[int] = ()) -> list[Uncertain]:
    """Rows that are due to be looked up, the longest due first, except for those in `without`."""
    statement = (
        select(*(outbox.c[name] for name in Uncertain.__slots__))
        .where(
            outbox.c.status == Status.UNCERTAIN,
            outbox.c.connection == connection,
            outbox.c.next_attempt_at <= func.now(),
            ~(outbox.c.id == any_(literal(list(without), ARRAY(BigInteger)))),
        )
        .order_by(outbox.c.next_attempt_at, outbox.c.id)
        .limit(MAX_UNCERTAIN)
    )
    rows = (await tx.execute(statement)).mappings()
    typed = {"operation": Operation, "uncertain_because": Uncertainty}
    return [Uncertain(**{**row, **{name: kind(row[name]) for name, kind in typed.items()}}) for row in rows]


async def lock_free(tx: AsyncConnection, row_ids: Sequence[int]) -> list[int]:
    """Lock rows for this transaction; those of them that nobody else holds."""
    free = select(outbox.c.id).where(outbox.c.id.in_(row_ids)).with_for_update(key_share=True, skip_locked=True)
    return list((await tx.execute(free)).scalars())


async def count_unsettled(tx: AsyncConnection, connection: str) -> tuple[int, timedelta]:
    """Rows that were sent and of which nothing is known yet, and how long until the first is due to be looked up."""
    row = (await tx.execute(_COUNT_UNSETTLED, {"connection": connection})).one()
    return row.number, row.wait


async def has_backlog(tx: AsyncConnection, connection: str) -> bool:
    """Whether anything is due, or was sent and is not finished."""
    is_waiting = and_(
        outbox.c.status == Status.PENDING, or_(outbox.c.attempts > 0, outbox.c.next_attempt_at <= func.now())
    )
    is_unsettled = outbox.c.status.in_([Status.SENDING, Status.UNCERTAIN])
    backlog = exists().where(outbox.c.connection == connection, or_(is_waiting, is_unsettled))
    return bool((await tx.execute(select(backlog))).scalar_one())


async def hold_suspicious(tx: AsyncConnection, connection: str, rules: Sequence[BrakeRule]) -> Written:
    """Hold the deletes of a connection that queues too many by one of the rules."""
    held = Written()
    for rule in rules:
        if reason := await _find_suspicious(tx, connection, rule):
            free = select(outbox.c.id).where(*_unreleased(connection)).with_for_update(key_share=True, skip_locked=True)
            row_ids = (await tx.execute(free)).scalars().all()
            more = await write_each(tx, row_ids, partial(_write, tx, _HOLD, reason=reason))
            held = Written(held.ids | more.ids, held.refused | more.refused)
    return held


async def _find_suspicious(tx: AsyncConnection, connection: str, rule: BrakeRule) -> str | None:
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


async def _count_deletes(tx: AsyncConnection, connection: str, rule: BrakeRule) -> tuple[int, int]:
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


async def prune(tx: AsyncConnection, keep: timedelta, after: tuple[datetime, int] | None = None) -> Pruned:
    """Delete rows that were finished longer ago than `keep`, some at a time, from behind `after` on.

    What must stay, as by a foreign key of a user's, is passed, or those behind it would stay with it.
    """
    finished_at, row_id = after or BEFORE_ALL
    where = {"keep": keep, "finished_at": finished_at, "id": row_id}
    old = (await tx.execute(_LOCK_OLD, where | {"limit": MAX_PRUNED})).all()
    try:
        async with tx.begin_nested():
            gone = len(list(await _write(tx, _PRUNE, [row.id for row in old])))
    except DBAPIError as error:
        if not isinstance(translate(error), StatementRefused):
            raise
        old = old[:MAX_PRUNED_EACH]
        gone = len((await write_each(tx, [row.id for row in old], partial(_write, tx, _PRUNE))).ids)
        return Pruned(gone, (old[-1].finished_at, old[-1].id))
    return Pruned(gone, (old[-1].finished_at, old[-1].id) if len(old) == MAX_PRUNED else None)


BEFORE_ALL = (datetime(1, 1, 1, tzinfo=UTC), 0)
IDS = bindparam("ids", type_=ARRAY(BigInteger))

# An attempt that is not there any more can settle nothing either. A row that was just moved to another attempt, which
# this statement cannot see, is not dead; and one that a user holds is rescued later.
_LOCK_DEAD = text("""
WITH dead AS MATERIALIZED (
  SELECT id, attempt_id FROM mews.voucher_code_outbox AS row
  WHERE row.status = 'sending' AND row.connection = :connection
    AND NOT EXISTS (SELECT FROM sync.attempts WHERE id = row.attempt_id AND until >= now())
)
SELECT row.id FROM mews.voucher_code_outbox AS row JOIN dead ON dead.id = row.id AND dead.attempt_id = row.attempt_id
WHERE row.status = 'sending'
FOR NO KEY UPDATE OF row SKIP LOCKED
""").bindparams(bindparam("connection", type_=Text))

_RESCUE = text("""
UPDATE mews.voucher_code_outbox AS row
SET status = 'uncertain', uncertain_because = 'expired', next_attempt_at = now() + :wait,
    unknown_since_utc = coalesce(
      row.unknown_since_utc, (SELECT server_utc FROM sync.attempts WHERE id = row.attempt_id), row.first_sent_utc),
    last_error = 'the process that sent it ended before it had noted an answer'
WHERE row.id = ANY (:ids)
RETURNING row.id
""").bindparams(IDS, bindparam("wait", type_=Interval))

# Who dies in a search may leave one whose rows are all in another's.
_FORGET_EMPTY = text("""
DELETE FROM sync.attempts AS attempt
WHERE attempt.connection = :connection AND attempt.until < now() AND NOT EXISTS (
  SELECT FROM mews.voucher_code_outbox AS row
  WHERE row.attempt_id = attempt.id AND row.status IN ('sending', 'uncertain')
)
""")

_COUNT_UNSETTLED = text("""
SELECT count(*) AS number, coalesce(min(due_at), now()) - now() AS wait
FROM (
  SELECT CASE row.status WHEN 'sending' THEN coalesce(attempt.until, now()) ELSE row.next_attempt_at END AS due_at
  FROM mews.voucher_code_outbox AS row LEFT JOIN sync.attempts AS attempt ON attempt.id = row.attempt_id
  WHERE row.status IN ('sending', 'uncertain') AND row.connection = :connection
) AS unsettled
""").bindparams(bindparam("connection", type_=Text))

_LOCK_NAMED = text("""
SELECT stray.id
FROM mews.voucher_code_outbox AS stray JOIN mews.voucher_codes AS code ON code.id = stray.voucher_code_id
WHERE stray.connection IS NULL AND stray.status IN ('pending', 'held') AND stray.voucher_id IS NULL
LIMIT :limit
FOR NO KEY UPDATE OF stray SKIP LOCKED
""")

_NAME_CODES = text("""
UPDATE mews.voucher_code_outbox AS row SET voucher_id = code.voucher_id, value = code.value
FROM mews.voucher_codes AS code WHERE row.id = ANY (:ids) AND code.id = row.voucher_code_id
RETURNING row.id
""").bindparams(IDS)

_LOCK_KNOWN = text("""
SELECT stray.id
FROM mews.voucher_code_outbox AS stray JOIN mews.vouchers AS voucher ON voucher.id = stray.voucher_id
WHERE stray.connection IS NULL AND stray.status IN ('pending', 'held') AND voucher.connection = :connection
LIMIT :limit
FOR NO KEY UPDATE OF stray SKIP LOCKED
""").bindparams(bindparam("connection", type_=Text))

_ADOPT = text("""
UPDATE mews.voucher_code_outbox AS row SET connection = known.connection, enterprise_id = known.enterprise_id
FROM mews.vouchers AS known WHERE row.id = ANY (:ids) AND known.id = row.voucher_id
RETURNING row.id
""").bindparams(IDS)

_LOCK_UNKNOWN = text("""
SELECT id FROM mews.voucher_code_outbox AS stray
WHERE connection IS NULL AND status = 'pending'
  AND greatest(created_at, next_attempt_at) <= :discovered
  AND (voucher_id IS NOT NULL OR greatest(created_at, next_attempt_at) <= :caught_up)
  AND NOT EXISTS (SELECT FROM mews.vouchers AS known WHERE known.id = stray.voucher_id)
  AND (voucher_id IS NOT NULL
       OR NOT EXISTS (SELECT FROM mews.voucher_codes AS known WHERE known.id = stray.voucher_code_id))
LIMIT :limit
FOR NO KEY UPDATE SKIP LOCKED
""").bindparams(bindparam("discovered", type_=TIMESTAMP), bindparam("caught_up", type_=TIMESTAMP))

# Through `sending`, as every row that fails. What it names may have come to be known since the adoption just before.
_CLAIM_UNKNOWN = text("""
UPDATE mews.voucher_code_outbox SET status = 'sending', attempt_id = gen_random_uuid(), connection = :connection
WHERE id = ANY (:ids)
RETURNING id
""").bindparams(IDS, bindparam("connection", type_=Text))

_FAIL_UNKNOWN = text("""
UPDATE mews.voucher_code_outbox
SET status = 'failed', finished_at = now(), connection = NULL, attempt_id = NULL, last_error = CASE
  WHEN voucher_id IS NULL THEN 'the API lists no code with this voucher_code_id to any connection'
  ELSE 'the API lists no voucher with this voucher_id to any connection' END
WHERE id = ANY (:ids)
RETURNING id
""").bindparams(IDS)

_HOLD = text("""
UPDATE mews.voucher_code_outbox SET status = 'held', last_error = :reason WHERE id = ANY (:ids) RETURNING id
""").bindparams(IDS, bindparam("reason", type_=Text))

_WAITING = text("""
SELECT count(*) FILTER (WHERE voucher_id IS NOT NULL) > 0 AS discovery,
       count(*) FILTER (WHERE voucher_id IS NULL) > 0 AS pull
FROM mews.voucher_code_outbox WHERE connection IS NULL AND status = 'pending' AND next_attempt_at <= now()
""")

_LOCK_OLD = text("""
SELECT id, finished_at FROM mews.voucher_code_outbox
WHERE finished_at < now() - :keep AND (finished_at, id) > (:finished_at, :id)
ORDER BY finished_at, id LIMIT :limit
FOR UPDATE SKIP LOCKED
""").bindparams(bindparam("keep", type_=Interval), bindparam("finished_at", type_=TIMESTAMP))

_PRUNE = text("DELETE FROM mews.voucher_code_outbox WHERE id = ANY (:ids) RETURNING id").bindparams(IDS)
