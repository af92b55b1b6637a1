"""What was queued before a gap: held, and looked up when somebody adopts the database."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, Select, Text, TextClause, bindparam, func, not_, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.gaps import Gap, Known
from sync.mirror.skipped import is_skipped
from sync.mirror.tables import vouchers as mirrored_vouchers
from sync.outbox import claims, lookups
from sync.outbox.completion import complete
from sync.outbox.each_row import IDS, Written, write_each, write_rows
from sync.outbox.outcomes import resolve_unsent
from sync.outbox.rules import Decision, HeldBecause, Operation, Row, Stands, Status
from sync.outbox.standing import standing
from sync.outbox.tables import ROW_COLUMNS, outbox
from sync.outbox.uncertain import NOT_SHOWN
from sync.postgres.engine import in_transaction
from sync.postgres.metadata import TIMESTAMP

REASON = (
    "held, since the database was restored or has lost commits: it may be done or cancelled already; "
    "`voucher-sync adopt` looks it up"
)
"""`last_error` of what a gap holds."""
HELD_AT_ONCE = 10_000
"""A transaction of so many takes about half a second."""


@dataclass(frozen=True, slots=True)
class Left:
    """Rows that a gap holds, by operation."""

    adds: int
    deletes: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.adds + self.deletes


@dataclass(frozen=True, slots=True)
class Concerned:
    """The connections whose rows a gap holds; `is_everybody`: some are of vouchers that nobody knew yet, and may be
    anybody's.
    """

    names: frozenset[str]
    is_everybody: bool

    def includes(self, name: str) -> bool:
        """Whether a connection must be read before anybody knows what became of all rows."""
        return self.is_everybody or name in self.names


async def hold_before_gap(tx: AsyncConnection, known: Known) -> Written:
    """Hold what is pending and was queued before the gap, but for what somebody has released since, by whatever clock:
    a gap holds each row once.

    Of a copy that is all: it may have been found while rows of the original were still being restored into it. What
    others have locked is held the next time.
    """
    if not known.gap_at:  # nor where others may still vouch for it
        return Written()
    parameters = {"through": through_of(known), "since": known.gap_at}
    return await _hold(tx, known, (await tx.execute(_FREE_TO_HOLD, parameters)).scalars().all())


async def hold_all_before_gap(engine: AsyncEngine, known: Known, *, waits: bool = False) -> tuple[int, dict[int, str]]:
    """The same, some at a time, since one transaction of millions would not end in time: how many rows, and why others
    are refused. It `waits` for what others have locked, as whoever closes the gap must.
    """
    if not known.gap_at:
        return 0, {}
    return await _hold_all(engine, known, _SOME_TO_HOLD if waits else _SOME_FREE_TO_HOLD)


async def hold_again(engine: AsyncEngine, known: Known) -> None:
    """Hold, some at a time, what an adoption has released that ended before it was recorded: who begins anew decides
    about it anew. What somebody has released by hand stays so, which the trigger notes with the same instant.
    """
    await _hold_all(engine, known, _SOME_RELEASED)


async def held_rows(tx: AsyncConnection, after: int, limit: int, of: Concerned | None = None) -> list[Row]:
    """Rows that a gap holds, by number, from the first after `after` on; locked, once nobody else has them.

    `of`: those of these connections alone; where they are everybody, also those of vouchers that nobody knows.
    """
    some = _ROWS_OF_GAP.where(outbox.c.id > after).limit(limit)
    if of is not None:
        is_theirs = outbox.c.connection.in_(of.names)
        some = some.where(or_(is_theirs, outbox.c.connection.is_(None)) if of.is_everybody else is_theirs)
    return await _load(tx, some)


async def count_held(tx: AsyncConnection) -> Left:
    """How many rows a gap holds still."""
    adds, deletes = (
        func.count().filter(outbox.c.operation == operation) for operation in (Operation.ADD, Operation.DELETE)
    )
    return Left(*(await tx.execute(select(adds, deletes).where(_IS_OF_GAP))).one())


async def count_open(tx: AsyncConnection, known: Known, names: Collection[str]) -> int:
    """How many changes of connections that were queued before the gap may be under way, or are still to be looked up.

    What the API does not show of them is pending then, and held. Those whose voucher it does not show are left out:
    what became of them nobody learns, so they are given up.
    """
    parameters = {"through": through_of(known), "names": list(names), "not_shown": NOT_SHOWN}
    return int((await tx.execute(_COUNT_OPEN, parameters)).scalar_one())


async def load_concerned(tx: AsyncConnection) -> Concerned:
    """Whom the rows concern that a gap holds."""
    found = (await tx.execute(select(outbox.c.connection).where(_IS_OF_GAP).distinct())).scalars().all()
    return Concerned(frozenset(name for name in found if name is not None), is_everybody=None in found)


async def own(tx: AsyncConnection, connection: str, vouchers: Collection[UUID]) -> list[UUID]:
    """Which of these vouchers a connection mirrors, of those that the API shows at present."""
    is_own = (mirrored_vouchers.c.connection == connection, mirrored_vouchers.c.id.in_(vouchers), not_(_IS_HIDDEN))
    return list((await tx.execute(select(mirrored_vouchers.c.id).where(*is_own).order_by("id"))).scalars())


async def hidden(tx: AsyncConnection, row_ids: Collection[int]) -> set[int]:
    """Which of these rows nobody could look up, since the API does not show their vouchers at present."""
    of_voucher = outbox.join(mirrored_vouchers, mirrored_vouchers.c.id == outbox.c.voucher_id)
    found = select(outbox.c.id).select_from(of_voucher).where(outbox.c.id.in_(row_ids), _IS_HIDDEN)
    return set((await tx.execute(found)).scalars())


async def _hold_all(engine: AsyncEngine, known: Known, select_some: TextClause) -> tuple[int, dict[int, str]]:
    number, refused, after = 0, dict[int, str](), 0

    async def hold_some(tx: AsyncConnection) -> tuple[Written, int]:
        parameters = {"through": through_of(known), "since": known.gap_at, "after": after, "most": HELD_AT_ONCE}
        row_ids = (await tx.execute(select_some, parameters)).scalars().all()
        return await _hold(tx, known, row_ids), max(row_ids, default=0)

    while True:
        held, last = await in_transaction(engine, hold_some, claims.as_daemon)
        number, refused = number + len(held.ids), refused | held.refused
        if not last:
            return number, refused
        after = last


async def _hold(tx: AsyncConnection, known: Known, row_ids: Sequence[int]) -> Written:
    return await write_each(tx, row_ids, partial(write_rows, tx, _HOLD, reason=REASON, since=known.gap_at))


async def complete_standing(tx: AsyncConnection, rows: Sequence[Row], server_utc: datetime) -> int:
    """Make those rows `done` that stand in the mirror, which has just been read; how many.

    With each go all others that the gap holds of the same voucher and value: what stands of one depends on them.
    """
    if not rows:
        return 0
    codes = {(row.voucher_id, row.value) for row in rows}
    of_same_codes = tuple_(outbox.c.voucher_id, outbox.c.value).in_(codes)
    others = await _load(tx, _ROWS_OF_GAP.where(of_same_codes))
    rows = sorted({row.id: row for row in [*rows, *others]}.values(), key=lambda row: row.id)
    deletes = [row for row in rows if row.operation is Operation.DELETE]
    adds = [row.id for row in rows if row.operation is Operation.ADD]
    named = await lookups.named_by(tx, deletes) if deletes else {}
    for row_id, code_id in await lookups.made_anew(tx, list(named), server_utc):
        if code_id in named[row_id][0]:  # else a pull has brought it since
            named[row_id][0].remove(code_id)
    made = await lookups.made_since_queued(tx, adds, server_utc, usable_only=False)
    stands = standing(rows, made, named)
    attempt_id = uuid4()
    await release(tx, list(stands))
    claimed = await claims.claim_unsent(tx, attempt_id, list(stands))
    decisions: dict[int, Decision] = {row_id: Stands(code_id) for row_id, code_id in stands.items()}
    completed = [row for row in rows if row.id in claimed.ids]
    return (await complete(tx, attempt_id, resolve_unsent(completed, decisions))).counts[Status.DONE]


async def release(tx: AsyncConnection, row_ids: Sequence[int]) -> Written:
    """Have held rows sent after all."""
    return await write_each(tx, row_ids, partial(write_rows, tx, _RELEASE))


async def cancel(tx: AsyncConnection, row_ids: Sequence[int]) -> Written:
    """Take held rows back."""
    return await write_each(tx, row_ids, partial(write_rows, tx, _CANCEL))


def through_of(known: Known) -> int | None:
    """The number of the last row that is from before the gap; None: whatever is queued in it."""
    return None if known.gap is Gap.COPY else known.gap_through


async def _load(tx: AsyncConnection, statement: Select[Any]) -> list[Row]:
    return [as_row(found) for found in (await tx.execute(statement)).mappings()]


def as_row(found: Mapping[str, Any]) -> Row:
    """A row as it was selected by `ROW_COLUMNS`."""
    return Row(**{**found, "operation": Operation(found["operation"])})


_IS_HIDDEN = or_(
    is_skipped(mirrored_vouchers.c.connection, mirrored_vouchers.c.id),
    is_skipped(mirrored_vouchers.c.connection, mirrored_vouchers.c.service_id),
)

_IS_OF_GAP = outbox.c.held_because == HeldBecause.BEFORE_A_GAP

_ROWS_OF_GAP = select(*ROW_COLUMNS).where(_IS_OF_GAP).order_by(outbox.c.id).with_for_update(key_share=True)

_PENDING_BEFORE_GAP = """
SELECT id FROM mews.voucher_code_outbox
WHERE status = 'pending' AND (id <= :through OR :through IS NULL) AND (released_at IS NULL OR released_at < :since)
  AND held_by_gap IS DISTINCT FROM :since
"""
_SOME = "AND id > :after ORDER BY id LIMIT :most"
_SINCE = bindparam("since", type_=TIMESTAMP)
_OF_GAP = (bindparam("through", type_=BigInteger), _SINCE)
_OF_SOME = (*_OF_GAP, bindparam("after", type_=BigInteger), bindparam("most", type_=BigInteger))
_FREE_TO_HOLD = text(f"{_PENDING_BEFORE_GAP} FOR NO KEY UPDATE SKIP LOCKED").bindparams(*_OF_GAP)
_SOME_TO_HOLD = text(f"{_PENDING_BEFORE_GAP} {_SOME} FOR NO KEY UPDATE").bindparams(*_OF_SOME)
_SOME_FREE_TO_HOLD = text(f"{_PENDING_BEFORE_GAP} {_SOME} FOR NO KEY UPDATE SKIP LOCKED").bindparams(*_OF_SOME)

_SOME_RELEASED = text(f"""
SELECT id FROM mews.voucher_code_outbox
WHERE status = 'pending' AND held_by_gap = :since AND (changed_at IS NULL OR changed_at < released_at)
{_SOME} FOR NO KEY UPDATE
""").bindparams(_SINCE, *_OF_SOME[2:])  # noqa: S608 - put together of constants

_COUNT_OPEN = text("""
SELECT count(*) FROM mews.voucher_code_outbox
WHERE status IN ('sending', 'uncertain') AND (id <= :through OR :through IS NULL) AND connection = ANY (:names)
  AND last_error IS DISTINCT FROM :not_shown
""").bindparams(_OF_GAP[0], bindparam("names", type_=ARRAY(Text)), bindparam("not_shown", type_=Text))

_HOLD = text("""
UPDATE mews.voucher_code_outbox SET status = 'held', held_because = 'before_a_gap', last_error = :reason,
  held_by_gap = :since
WHERE id = ANY (:ids) RETURNING id
""").bindparams(IDS, bindparam("reason", type_=Text), _SINCE)

# After the gap, whatever the clock did since that was noticed: else the release before would hold it again.
_RELEASE = text("""
UPDATE mews.voucher_code_outbox
SET status = 'pending', held_because = NULL, last_error = NULL,
    released_at = greatest(clock_timestamp(), (SELECT known.gap_at FROM sync.incarnation AS known)),
    next_attempt_at = greatest(now(), not_before)
WHERE id = ANY (:ids) AND status = 'held' RETURNING id
""").bindparams(IDS)

_CANCEL = text("""
UPDATE mews.voucher_code_outbox
SET status = 'cancelled', held_because = NULL, finished_at = now(),
    last_error = 'cancelled when the database was adopted'
WHERE id = ANY (:ids) AND status = 'held' RETURNING id
""").bindparams(IDS)
