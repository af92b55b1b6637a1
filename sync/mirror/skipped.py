"""Services and vouchers that are left out of reading: refused by the API, or no longer listed by it.

One such voucher would spoil the call of its whole group. What is skipped keeps its watermark, and goes on from there
once it is read again; until then `mews.coverage` tells how far it came, and why it stands still.
"""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import (
    Delete,
    Exists,
    Select,
    Text,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, array, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from sync.core.api_errors import InvalidRequest
from sync.mirror.tables import plans, skipped, vouchers
from sync.mirror.windows import chunks
from sync.postgres.metadata import ROWS_PER_STATEMENT, UNDER_WAY

Kind = Literal["service", "voucher"]

REFUSAL_LASTS = timedelta(days=1)
"""After this time what was refused is tried again."""
NOT_LISTED = "vouchers/getAll no longer lists it"


async def refuse(tx: AsyncConnection, connection: str, kind: Kind, ids: Sequence[UUID], error: InvalidRequest) -> None:
    """Leave out for a day what the API refused to read."""
    row = {"connection": connection, "kind": kind, "reason": error.api_message, "request_id": error.request_id}
    await _skip(tx, [{"id": one, "until": func.now() + REFUSAL_LASTS, **row} for one in ids])
    if kind == "voucher":
        await take_out_of_plans(tx, connection, ids)


async def _skip(tx: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    for some in chunks(rows, ROWS_PER_STATEMENT):
        statement = insert(skipped).values(some)
        new = statement.excluded
        changes = {"reason": new.reason, "request_id": new.request_id, "since": func.now(), "until": new.until}
        key = [skipped.c.connection, skipped.c.id]
        await tx.execute(statement.on_conflict_do_update(index_elements=key, set_=changes))


async def unlisted(tx: AsyncConnection, connection: str, listed: Collection[UUID]) -> list[UUID]:
    """The vouchers that a whole discovery did not see, and that are not left out for that yet.

    A service that is refused at present hides its vouchers, which says nothing about them.
    """
    parameters = {"of_connection": connection, "listed": list(listed)}
    return list((await tx.execute(_UNLISTED, parameters)).scalars())


async def follow_listing(tx: AsyncConnection, connection: str, listed: Collection[UUID]) -> list[UUID]:
    """Leave out the vouchers that are unlisted, until they are listed; those that are left out from now on."""
    await tx.execute(_READ_AGAIN, {"of_connection": connection, "listed": list(listed)})
    gone = await unlisted(tx, connection, listed)
    if gone:
        row = {"connection": connection, "kind": "voucher", "reason": NOT_LISTED, "request_id": None, "until": None}
        await _skip(tx, [{"id": one, **row} for one in gone])
        await take_out_of_plans(tx, connection, gone)
    return gone


async def skipped_ids(tx: AsyncConnection, connection: str, kind: Kind) -> set[UUID]:
    """What is to be left out now."""
    statement = select(skipped.c.id).where(skipped.c.connection == connection, skipped.c.kind == kind, is_in_force())
    return set((await tx.execute(statement)).scalars())


def is_skipped(connection: ColumnElement[str], one: ColumnElement[UUID]) -> Exists:
    """Whether a row of another statement is to be left out now."""
    return exists().where(skipped.c.connection == connection, skipped.c.id == one, is_in_force())


async def take_out_of_plans(tx: AsyncConnection, connection: str, ids: Sequence[UUID]) -> None:
    """Have no window that is open read for these vouchers; one that is left without any goes."""
    # Back in the middle of a plan, a voucher would have missed the windows that ended meanwhile.
    parameters = {"of_connection": connection, "ids": list(ids)}
    await tx.execute(_TAKE_OUT, parameters)
    await tx.execute(_END_EMPTY_PLANS, parameters)


def is_in_force() -> ColumnElement[bool]:
    """Whether a row of `sync.skipped` holds now.

    Where the database's clock went back, a refusal that was found in its future is asked for anew, and what is listed
    again stays so: neither waits for that clock.
    """
    is_refused = and_(
        skipped.c.reason != NOT_LISTED, skipped.c.since <= func.now() + UNDER_WAY, skipped.c.until > func.now()
    )
    return or_(skipped.c.until.is_(None), is_refused)


def _is_listed(one: ColumnElement[UUID]) -> ColumnElement[bool]:
    return one == func.any(bindparam("listed", type_=ARRAY(UUID_TYPE)))


def _read_again() -> Update:
    # The row stays: a pull that ended before this instant did not read the voucher, as `mews.coverage` must know.
    is_unlisted = (
        skipped.c.connection == bindparam("of_connection"),
        skipped.c.kind == "voucher",
        skipped.c.until.is_(None),
    )
    return update(skipped).where(*is_unlisted, _is_listed(skipped.c.id)).values(until=func.now())


def _unlisted() -> Select[UUID]:
    of_connection: Any = bindparam("of_connection", type_=Text)
    is_left_out = exists().where(
        skipped.c.connection == of_connection, skipped.c.id == vouchers.c.id, skipped.c.until.is_(None)
    )
    return select(vouchers.c.id).where(
        vouchers.c.connection == of_connection,
        ~_is_listed(vouchers.c.id),
        ~is_left_out,
        ~is_skipped(vouchers.c.connection, vouchers.c.service_id),
    )


def _take_out() -> Update:
    ids = bindparam("ids", type_=ARRAY(UUID_TYPE))
    member = func.pg_catalog.unnest(plans.c.voucher_ids).column_valued("member")
    stays = select(
        func.coalesce(func.pg_catalog.array_agg(member, type_=ARRAY(UUID_TYPE)), array([], type_=UUID_TYPE))
    ).where(member != func.all(ids))
    holds_any = plans.c.voucher_ids.bool_op("OPERATOR(pg_catalog.&&)")(ids)
    return (
        update(plans)
        .where(plans.c.connection == bindparam("of_connection"), holds_any)
        .values(voucher_ids=stays.scalar_subquery())
    )


def _end_empty_plans() -> Delete:
    return delete(plans).where(
        plans.c.connection == bindparam("of_connection"), func.pg_catalog.cardinality(plans.c.voucher_ids) == 0
    )


_READ_AGAIN = _read_again()
_UNLISTED = _unlisted()
_TAKE_OUT = _take_out()
_END_EMPTY_PLANS = _end_empty_plans()
