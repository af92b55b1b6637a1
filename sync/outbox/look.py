"""What has become due, without reading again what was done since.

Each row that is sent leaves dead entries in the indexes of what is pending. While somebody's transaction stays open
none of them can be cleaned away, and they lie in front of what is due now: after 100,000 rows a look took 22 ms longer.
So a look begins where the last one saw the first row that was due. What comes to lie before that, as by a transaction
that was open for long, is found by `has_earlier`, which reads all of it: seldom, and beside the push.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    func,
    literal_column,
    select,
    text,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.claims import BEGINNING, Lane, Position
from sync.outbox.due import in_order, is_from_since_on, locked_one
from sync.outbox.rules import Operation, Row
from sync.outbox.tables import IS_NEXT, outbox
from sync.postgres.metadata import TIMESTAMP

FEW = 100
"""Rows that are due, of which a call takes all: then nobody need take turns."""
COMMITTED_WITHIN = timedelta(seconds=10)
"""A row is due from the beginning of the transaction that queued it. What takes longer is found by `has_earlier`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The lanes in which something is due, and where the next look begins.

    `are_few`: all that is due fits in a call of each lane. `now` is the database's time of the look. `has_unassigned`:
    rows have no connection yet, of whichever; `has_followers`: rows may wait for others.
    """

    lanes: list[Lane]
    since: Position
    are_few: bool
    now: datetime
    has_unassigned: bool = False
    has_followers: bool = False

    @property
    def has_waiting(self) -> bool:
        """Whether rows may wait for something that has come about."""
        return self.has_unassigned or self.has_followers


NOTHING = Seen([], BEGINNING, are_few=False, now=datetime.min.replace(tzinfo=UTC))
"""Before the first look."""


async def look(tx: AsyncConnection, connection: str, before: Seen) -> Seen:
    """What is due now, of what was not done at the look before; in a transaction that is opened `by_index`."""
    return (await _look_on(tx, connection, before, None))[0]


async def look_and_lock(
    tx: AsyncConnection, connection: str, before: Seen, without: Iterable[int]
) -> tuple[Seen, list[Row]]:
    """The same, and what `lock_due` finds of few rows, in the same trip to the database: of all lanes at once."""
    return await _look_on(tx, connection, before, without)


async def _look_on(
    tx: AsyncConnection, connection: str, before: Seen, without: Iterable[int] | None
) -> tuple[Seen, list[Row]]:
    found = await _look(tx, connection, before.since, without)
    if found[0].now < before.now:
        # The database's clock was put back: what is queued by it lies before all that was seen.
        found = await _look(tx, connection, BEGINNING, without)
    return found


async def has_earlier(tx: AsyncConnection, connection: str, since: Position) -> bool:
    """Whether something is due that a look from there on does not find."""
    parameters = {"connection": connection, "at": since.at, "id": since.id}
    return bool((await tx.execute(_HAS_EARLIER, parameters)).scalar_one())


async def due_lanes(tx: AsyncConnection, connection: str, since: Position = BEGINNING) -> list[Lane]:
    """The lanes in which something is due, from a position on, however much it is."""
    parameters = {"connection": connection, "at": since.at, "id": since.id}
    return [_lane(connection, *row) for row in await tx.execute(_DUE_LANES, parameters)]


async def _look(
    tx: AsyncConnection, connection: str, since: Position, without: Iterable[int] | None
) -> tuple[Seen, list[Row]]:
    parameters: dict[str, Any] = {"due_of": connection, "since_at": since.at, "since_id": since.id, "most": FEW}
    if without is not None:
        parameters["without"] = list(without)
    rows = (await tx.execute(_due(locks=without is not None), parameters)).mappings().all()
    due = [row for row in rows if row["due_id"] is not None]
    are_few = len(due) < FEW
    lanes = list(dict.fromkeys(_lane(connection, row["due_operation"], row["due_hotel"]) for row in due))
    now = rows[0]["now"]
    seen = Seen(
        lanes if are_few else await due_lanes(tx, connection, since),
        min([Position(now - COMMITTED_WITHIN, 0), *(Position(row["due_at"], row["due_id"]) for row in due)]),
        are_few,
        now,
        rows[0]["has_unassigned"],
        rows[0]["has_followers"],
    )
    return seen, in_order(row for row in due if row.get("id") is not None)


def _lane(connection: str, operation: str, enterprise_id: UUID | None) -> Lane:
    return Lane(connection, Operation(operation), enterprise_id)


# The condition on `status` is that of the index alone which is in this order. What is seldom there is asked for in the
# same trip, and by the first entry of an index.
@cache
def _due(*, locks: bool) -> Select[Any]:
    names = ("connection", "operation", "enterprise_id", "next_attempt_at", "id")
    due = (
        select(*(outbox.c[name] for name in names))
        .where(literal_column(IS_NEXT.text, Boolean), outbox.c.connection == bindparam("due_of"))
        .where(is_from_since_on(), outbox.c.next_attempt_at <= func.now())
        .order_by(outbox.c.next_attempt_at, outbox.c.id)
        .limit(bindparam("most", type_=Integer))
        .lateral("due")
    )
    found = select(literal_column("1").label("one")).subquery("look").outerjoin(due, true())
    columns: list[ColumnElement[Any]] = [func.now().label("now"), _HAS_UNASSIGNED, _HAS_FOLLOWERS]
    columns += [due.c.operation.label("due_operation"), due.c.enterprise_id.label("due_hotel")]
    columns += [due.c.next_attempt_at.label("due_at"), due.c.id.label("due_id")]
    if locks:
        locked = locked_one(due)
        return select(*columns, *locked.c).select_from(found.outerjoin(locked, true()))
    return select(*columns).select_from(found)


_HAS_UNASSIGNED = literal_column(
    """(
  SELECT unassigned.id FROM mews.voucher_code_outbox AS unassigned
  WHERE unassigned.connection IS NULL AND unassigned.status IN ('pending', 'held')
  ORDER BY unassigned.voucher_id LIMIT 1
) IS NOT NULL""",
    Boolean,
).label("has_unassigned")
_HAS_FOLLOWERS = literal_column(
    """(
  SELECT waiting.id FROM mews.voucher_code_outbox AS waiting
  WHERE right(waiting.status, 7) = 'pending' AND waiting.after_id IS NOT NULL
  ORDER BY waiting.after_id LIMIT 1
) IS NOT NULL""",
    Boolean,
).label("has_followers")

_FROM = (bindparam("connection", type_=Text), bindparam("at", type_=TIMESTAMP), bindparam("id", type_=BigInteger))

_HAS_EARLIER = text("""
SELECT EXISTS (
  SELECT FROM mews.voucher_code_outbox AS row
  WHERE left(row.status, 7) = 'pending' AND row.connection = :connection
    AND (row.next_attempt_at, row.id) < (:at, :id) AND row.next_attempt_at <= now()
)
""").bindparams(*_FROM)

# One step of the recursion finds the next hotel in the index, and the first row there is the first that is due: a
# million pending rows of one hotel cost two steps.
_DUE_LANES = text("""
WITH RECURSIVE hotel AS (
  SELECT operation, (
    SELECT pending.enterprise_id FROM mews.voucher_code_outbox AS pending
    WHERE pending.status = 'pending' AND pending.connection = :connection AND pending.operation = kind.operation
      AND pending.next_attempt_at >= :at
    ORDER BY pending.enterprise_id LIMIT 1
  ) AS enterprise_id
  FROM pg_catalog.unnest(ARRAY['add', 'delete']) AS kind(operation)
UNION ALL
  SELECT operation, (
    SELECT pending.enterprise_id FROM mews.voucher_code_outbox AS pending
    WHERE pending.status = 'pending' AND pending.connection = :connection AND pending.operation = hotel.operation
      AND pending.enterprise_id > hotel.enterprise_id AND pending.next_attempt_at >= :at
    ORDER BY pending.enterprise_id LIMIT 1
  )
  FROM hotel WHERE hotel.enterprise_id IS NOT NULL
)
SELECT operation, enterprise_id FROM hotel
WHERE now() >= (
  SELECT due.next_attempt_at FROM mews.voucher_code_outbox AS due
  WHERE due.status = 'pending' AND due.connection = :connection AND due.operation = hotel.operation
    AND due.enterprise_id = hotel.enterprise_id AND (due.next_attempt_at, due.id) >= (:at, :id)
  ORDER BY due.enterprise_id, due.next_attempt_at, due.id LIMIT 1
) OR (hotel.enterprise_id IS NULL AND now() >= (
  SELECT due.next_attempt_at FROM mews.voucher_code_outbox AS due
  WHERE due.status = 'pending' AND due.connection = :connection AND due.operation = hotel.operation
    AND due.enterprise_id IS NULL AND (due.next_attempt_at, due.id) >= (:at, :id)
  ORDER BY due.enterprise_id, due.next_attempt_at, due.id LIMIT 1
))
""").bindparams(*_FROM)
