"""What is due in the outbox, and in which turn.

What has a higher priority goes first. Of one priority, everybody who queued something gets an equal share of a call,
and what one leaves of it goes to the others: 100,000 rows of one user keep another's single row waiting for one call.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, groupby, zip_longest
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Integer,
    RowMapping,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    column,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import LateralFromClause

from sync.mirror.tables import voucher_codes, vouchers
from sync.outbox.claims import BEGINNING, Lane, Position
from sync.outbox.rules import Operation, Row, Status
from sync.outbox.tables import IS_IN_TURN, IS_NEXT, QUEUER, ROW_COLUMNS, UNFINISHED, is_fulfilled, outbox
from sync.postgres.metadata import TIMESTAMP


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which due rows of a lane: at most `limit`, none of those in `without`, from the position `since` on."""

    lane: Lane
    limit: int
    without: Collection[int] = ()
    since: Position = BEGINNING


async def lock_due(tx: AsyncConnection, wanted: Wanted, *, are_few: bool = False) -> list[Row]:
    """The rows that are wanted, of each user the longest due first, for this transaction to decide on.

    In a transaction that is opened `by_index`. Left out are rows whose `after_id` is not done; rows behind an
    unfinished one for the same code, since their order counts, but for a delete that another user has put off, or
    queued behind another change; and rows that somebody else holds. `are_few`: probably all that are due are fewer than
    the limit, so that nobody need take turns.
    """
    found = await _lock_all(tx, wanted) if are_few else None
    return await _lock_in_turn(tx, wanted) if found is None else found


async def _lock_all(tx: AsyncConnection, wanted: Wanted) -> list[Row] | None:
    """All due rows of a lane, what has a higher priority first; None where they are not fewer than the limit."""
    parameters = {"without": list(wanted.without), "limit": wanted.limit, **_parameters(wanted)}
    rows = (await tx.execute(_statements_for(wanted.lane).all_due, parameters)).mappings().all()
    return None if len(rows) == wanted.limit else in_order(rows)


async def _lock_in_turn(tx: AsyncConnection, wanted: Wanted) -> list[Row]:
    statements, parameters, found = _statements_for(wanted.lane), _parameters(wanted), list[Row]()
    due_turns = (await tx.execute(statements.turns, parameters)).all()
    for priority, turns in groupby(due_turns, key=lambda turn: turn.priority):
        queuers = [turn.queuer for turn in turns]
        while queuers and len(found) < wanted.limit:
            share = -((len(found) - wanted.limit) // len(queuers))
            left_out = [*wanted.without, *(row.id for row in found)]
            turn = {"turn_priority": priority, "queuers": queuers, "share": share, "without": left_out}
            shares = defaultdict[str, list[Row]](list)
            due = (await tx.execute(statements.shares, turn | parameters)).mappings().all()
            for of_queuer, row in zip(due, _rows(due), strict=True):
                shares[of_queuer["queuer"]].append(row)
            in_turn = chain.from_iterable(zip_longest(*shares.values()))
            found += [one for one in in_turn if one is not None][: wanted.limit - len(found)]
            queuers = [queuer for queuer in queuers if len(shares[queuer]) == share]
    return found


Conditions = tuple[ColumnElement[bool], ...]
_QUEUER: ColumnElement[str] = literal_column(QUEUER.text, Text)
_TURN_ORDER = (outbox.c.enterprise_id, outbox.c.priority, _QUEUER)
"""Behind connection and operation, and before what orders the rows of a turn: the order of `..._turns_idx`."""


_SINCE_AT, _SINCE_ID = bindparam("since_at", type_=TIMESTAMP), bindparam("since_id", type_=BigInteger)


def _parameters(wanted: Wanted) -> dict[str, Any]:
    lane, since = wanted.lane, wanted.since
    hotel = {} if lane.enterprise_id is None else {"hotel": lane.enterprise_id}
    return {
        "lane_connection": lane.connection,
        "lane_operation": lane.operation,
        "since_at": since.at,
        "since_id": since.id,
    } | hotel


def is_from_since_on() -> ColumnElement[bool]:
    """Whether a row is not before the position of the parameters `since_at` and `since_id`."""
    return tuple_(outbox.c.next_attempt_at, outbox.c.id) >= tuple_(_SINCE_AT, _SINCE_ID)


def is_anothers() -> ColumnElement[bool]:
    """Whether the row's voucher is another connection's by now. By OFFSET it stays a look-up for each row."""
    moved = (vouchers.c.id == outbox.c.voucher_id, vouchers.c.connection != outbox.c.connection)
    return select(vouchers.c.id).where(*moved).correlate(outbox).offset(0).exists()


def _may_go() -> Conditions:
    return (
        is_from_since_on(),
        outbox.c.next_attempt_at <= func.now(),
        ~(outbox.c.id == any_(bindparam("without", type_=ARRAY(BigInteger)))),
        ~_waits(outbox),
        ~_is_blocked(),
    )


def in_order(found: Iterable[RowMapping]) -> list[Row]:
    """Rows of a lane that fit in a call, what has a higher priority first."""
    return _rows(sorted(found, key=lambda row: -row["priority"]))


def locked_one(seen: FromClause) -> LateralFromClause:
    """A row that is `seen`, locked as `lock_due` does; nothing where it may not go, or is in another lane by now."""
    # Said so, no index of what is pending is taken for the one to find it by.
    is_pending = outbox.c.status.concat("") == Status.PENDING
    in_its_lane = [outbox.c[name].is_not_distinct_from(seen.c[name]) for name in ("connection", "enterprise_id")]
    return (
        select(*_columns())
        .where(outbox.c.id == seen.c.id, is_pending, *in_its_lane, *_may_go())
        .with_for_update(key_share=True, skip_locked=True)
        .lateral("locked")
    )


@dataclass(frozen=True, slots=True)
class _Statements:
    """What finds due rows of lanes that have a hotel, or of those that have none."""

    all_due: Select[Any]
    turns: Select[Any]
    shares: Select[Any]


def _statements_for(lane: Lane) -> _Statements:
    return _statements(has_hotel=lane.enterprise_id is not None)


# To build one of them takes longer than all that the database does for a claim, so each is built once.
@cache
def _statements(*, has_hotel: bool) -> _Statements:
    of_lane = (
        outbox.c.connection == bindparam("lane_connection"),
        outbox.c.operation == bindparam("lane_operation"),
        outbox.c.enterprise_id == bindparam("hotel") if has_hotel else outbox.c.enterprise_id.is_(None),
    )
    pending = (literal_column(IS_IN_TURN.text, Boolean), *of_lane)
    return _Statements(_all_due(of_lane), _due_turns(pending), _due_shares(pending))


def _all_due(of_lane: Conditions) -> Select[Any]:
    return (
        select(*_columns())
        .where(literal_column(IS_NEXT.text, Boolean), *of_lane, *_may_go())
        .order_by(outbox.c.next_attempt_at, outbox.c.id)
        .limit(bindparam("limit", type_=Integer))
        .with_for_update(key_share=True, skip_locked=True)
    )


def _due_turns(pending: Conditions) -> Select[Any]:
    """Who has something due of which priority, the highest first. Each is one step in the index."""

    def first(*conditions: ColumnElement[bool]) -> Select[tuple[int, str]]:
        last_first = [column.desc() for column in _TURN_ORDER]
        columns = (outbox.c.priority, _QUEUER.label("queuer"))
        is_from = outbox.c.next_attempt_at >= _SINCE_AT
        return select(*columns).where(*pending, is_from, *conditions).order_by(*last_first).limit(1)

    turns = select(first().subquery("highest")).cte("turns", recursive=True)
    is_next = tuple_(outbox.c.priority, _QUEUER) < tuple_(turns.c.priority, turns.c.queuer)
    following = first(is_next).correlate(turns).lateral("following")
    turns = turns.union_all(select(following).select_from(turns.join(following, true())))
    of_turn = (outbox.c.priority == turns.c.priority, turns.c.queuer == _QUEUER)
    longest_due = select(outbox.c.next_attempt_at).where(*pending, *of_turn, is_from_since_on())
    longest_due = longest_due.order_by(*_TURN_ORDER, outbox.c.next_attempt_at, outbox.c.id).limit(1).correlate(turns)
    due = select(turns.c.priority, turns.c.queuer).where(longest_due.scalar_subquery() <= func.now())
    return due.order_by(turns.c.priority.desc())


def _due_shares(pending: Conditions) -> Select[Any]:
    """Up to `share` rows of each of `queuers`."""
    queuers = bindparam("queuers", type_=ARRAY(Text))
    turn = func.pg_catalog.unnest(queuers).table_valued(column("queuer", Text), name="turn").render_derived()
    due = (
        select(*ROW_COLUMNS, is_anothers().label("is_anothers"))
        .where(
            *pending,
            outbox.c.priority == bindparam("turn_priority"),
            turn.c.queuer == _QUEUER,
            *_may_go(),
        )
        .order_by(*_TURN_ORDER, outbox.c.next_attempt_at, outbox.c.id)
        .limit(bindparam("share", type_=Integer))
        .with_for_update(key_share=True, skip_locked=True)
        .lateral("due")
    )
    return select(turn.c.queuer, due).select_from(turn).join(due, true())


def _columns() -> list[ColumnElement[Any]]:
    computed = [_is_mirrored().label("may_be_mirrored"), is_anothers().label("is_anothers")]
    return [outbox.c.priority, *ROW_COLUMNS, *computed]


def _rows(found: Sequence[RowMapping]) -> list[Row]:
    """Rows of one statement, which all have the same columns: a thousand of them are made while others wait."""
    if not found:
        return []
    names = [name for name in Row.__slots__ if name in found[0]]
    columns = (dict(zip(names, values, strict=True)) for values in map(itemgetter(*names), found))
    return [Row(**one | {"operation": Operation(one["operation"])}) for one in columns]


def _waits(row: FromClause) -> ColumnElement[bool]:
    """Whether the row that this one is to follow is not done yet. By OFFSET it stays a look-up for each row."""
    first = outbox.alias("first")
    undone = select(first.c.id).where(first.c.id == row.c.after_id, ~is_fulfilled(first))
    return and_(row.c.after_id.is_not(None), undone.correlate(row).offset(0).exists())


def _is_mirrored() -> ColumnElement[bool]:
    """Whether the mirror has a code of the same voucher and value. By OFFSET it stays a look-up for each row."""
    same_code = (voucher_codes.c.voucher_id == outbox.c.voucher_id, voucher_codes.c.value == outbox.c.value)
    return select(voucher_codes.c.id).where(*same_code).correlate(outbox).offset(0).exists()


def _is_blocked() -> ColumnElement[bool]:
    """Whether an unfinished row for the same code stands before this one, and nobody may pass it."""
    earlier = outbox.alias("earlier")
    # Else anybody could keep others from a code for years. Whoever waits for an add of somebody else's needs its code.
    is_put_off = and_(
        earlier.c.operation == Operation.DELETE,
        earlier.c.queued_by.is_distinct_from(outbox.c.queued_by),
        earlier.c.status == Status.PENDING,
        or_(func.coalesce(earlier.c.not_before > func.now(), False), _waits(earlier)),
    )
    of_same_code = select(earlier.c.id).where(
        earlier.c.voucher_id == outbox.c.voucher_id,
        earlier.c.value == outbox.c.value,
        earlier.c.id + 0 < outbox.c.id,
        earlier.c.status.in_(UNFINISHED),
        ~is_put_off,
    )
    # By OFFSET it stays a look-up for each row, and by + 0 only one index has what it needs. To statistics of an outbox
    # that was empty any other way seems as cheap, as a join, and then the whole of it is read for each row.
    return of_same_code.correlate(outbox).offset(0).exists()
