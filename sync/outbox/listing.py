"""Looking into the outbox: its rows, how many there are of which status, and why they failed or wait."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Select, Text, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.printable import SHORT, quoted
from sync.mirror.tables import voucher_codes, vouchers
from sync.outbox.rules import Operation, Status
from sync.outbox.tables import outbox, outbox_attempts

NOT_SHOWN = ("first_sent_at", "uncertain_because", "blocked_alone", "singled_out", "held_by_gap")
_SHOWN: list[Column[Any]] = [one for one in outbox.c if one.name not in NOT_SHOWN]
"""What the daemon reckons with is no part of what these commands tell, which others parse."""
EXPORTED = (
    "id", "operation", "status", "voucher_id", "voucher_name", "value", "voucher_code_id", "validity_start_utc",
    "validity_end_utc", "created_at", "finished_at", "queued_by", "idempotency_key", "note", "last_error", "request_id",
)  # fmt: skip
HIDDEN = "***"
"""Stands where a code's text is left out."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are listed; None and empty stand for all.

    `value`: the code's text. `since` and `until`: when they ended, or were queued where they have not; the first
    included, the second not. `note` and `queued_by`: exactly so.
    """

    statuses: Sequence[Status] = ()
    operation: Operation | None = None
    voucher_id: UUID | None = None
    value: str | None = None
    note: str | None = None
    queued_by: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self, *, with_status: bool = True) -> list[ColumnElement[bool]]:
        """What such rows fulfil."""
        equal = {
            outbox.c.operation: self.operation,
            outbox.c.voucher_id: self.voucher_id,
            outbox.c.value: self.value,
            outbox.c.note: self.note,
            outbox.c.queued_by: self.queued_by,
        }
        found: list[ColumnElement[bool]] = [one == wanted for one, wanted in equal.items() if wanted is not None]
        if self.statuses and with_status:
            found.append(outbox.c.status.in_(self.statuses))
        when = func.coalesce(outbox.c.finished_at, outbox.c.created_at)
        if self.since:
            found.append(when >= self.since)
        if self.until:
            found.append(when < self.until)
        return found


@dataclass(frozen=True, slots=True)
class Reason:
    """Why rows failed or wait: `reason` without what differs from row to row, how many they are, and the last one."""

    status: Status
    operation: Operation
    reason: str
    number: int
    last_id: int
    last_at: datetime


async def newest(tx: AsyncConnection, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """Rows of the outbox, the newest first."""
    query = _with_names(wanted).order_by(outbox.c.id.desc()).limit(limit)
    return [dict(row) for row in (await tx.execute(query)).mappings()]


async def stream(tx: AsyncConnection, wanted: Wanted) -> AsyncIterator[Sequence[Any]]:
    """`EXPORTED` of all such rows, the oldest first, however many there are."""
    rows = await tx.stream(_with_names(wanted).order_by(outbox.c.id))
    async for row in rows.mappings():
        yield [row[name] for name in EXPORTED]


async def counts(tx: AsyncConnection, wanted: Wanted) -> dict[Status, int]:
    """How many rows there are of each status, whichever statuses are wanted."""
    conditions = wanted.conditions(with_status=False)
    query = select(outbox.c.status, func.count().label("number")).where(*conditions).group_by(outbox.c.status)
    found = {row.status: row.number for row in await tx.execute(query)}
    return {status: found[status] for status in Status if status in found}


async def reasons(tx: AsyncConnection, wanted: Wanted) -> list[Reason]:
    """Why such rows failed or wait, the most frequent first. The code's text, ids and numbers are taken out."""
    reason = _without_differences(_without_own_code())
    when = func.coalesce(outbox.c.finished_at, outbox.c.sent_at, outbox.c.created_at)
    # In a query of its own: by its bare name it could be a column that a user has added to the table.
    told = (
        select(outbox.c.status, outbox.c.operation, reason.label("reason"), outbox.c.id, when.label("at"))
        .where(*wanted.conditions(), outbox.c.last_error.is_not(None))
        .subquery("told")
    )
    alike, number = (told.c.status, told.c.operation, told.c.reason), func.count().label("number")
    last = (func.max(told.c.id).label("last_id"), func.max(told.c.at).label("last_at"))
    query = select(*alike, number, *last).group_by(*alike).order_by(number.desc(), told.c.reason)
    return [
        Reason(**{**row, "status": Status(row["status"]), "operation": Operation(row["operation"])})
        for row in (await tx.execute(query)).mappings()
    ]


async def row_with_attempts(tx: AsyncConnection, row_id: int) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """A row and its attempts, the first one first; None if there is no such row."""
    row = (await tx.execute(_with_names().where(outbox.c.id == row_id))).mappings().one_or_none()
    if row is None:
        return None
    of_row = select(outbox_attempts).where(outbox_attempts.c.outbox_id == row_id)
    tries = await tx.execute(of_row.order_by(outbox_attempts.c.sent_at, outbox_attempts.c.settled_at))
    return dict(row), [dict(one) for one in tries.mappings()]


async def mirrored(tx: AsyncConnection, value: str) -> list[dict[str, Any]]:
    """The codes of this text that the mirror has, in any voucher, the active ones first."""
    names = ("id", "voucher_id", "is_active", "validity_start_utc", "validity_end_utc", "updated_utc", "missing_since")
    columns = [voucher_codes.c[name] for name in names]
    query = (
        select(*columns, vouchers.c.name.label("voucher_name"))
        .outerjoin(vouchers, vouchers.c.id == voucher_codes.c.voucher_id)
        .where(voucher_codes.c.value == value)
        .order_by(voucher_codes.c.is_active.desc(), voucher_codes.c.updated_utc.desc().nulls_last())
    )
    return [dict(row) for row in (await tx.execute(query)).mappings()]


def without_code(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its code, and without what may hold it: an application may have taken it as its key, and the API
    may quote it."""
    shown = {name: content for name, content in row.items() if name not in {"value", "idempotency_key"}}
    if row["value"] and row["last_error"]:
        shown["last_error"] = quoted(row["value"]).sub(HIDDEN, row["last_error"])
    return shown


def _with_names(wanted: Wanted | None = None) -> Select[Any]:
    query = select(*_SHOWN, vouchers.c.name.label("voucher_name"))
    query = query.outerjoin(vouchers, vouchers.c.id == outbox.c.voucher_id)
    return query.where(*wanted.conditions()) if wanted else query


def _without_own_code() -> ColumnElement[str]:
    """As `quoted` finds it. A short one is left out only where it is written as it is: it may be in any word."""
    value, words = func.coalesce(outbox.c.value, ""), outbox.c.last_error
    in_a_line = func.btrim(func.regexp_replace(value, "[[:space:][:cntrl:]]+", " ", "g"))
    literally = func.regexp_replace(in_a_line, "([^[:alnum:] ])", "\\\\\\1", "g")
    found = func.regexp_replace(words, func.replace(literally, " ", "\\s+"), HIDDEN, "gi", type_=Text)
    return case((func.length(in_a_line) > SHORT, found), else_=func.replace(words, value, HIDDEN))


def _without_differences(words: ColumnElement[str]) -> ColumnElement[str]:
    uuid = "[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
    found = func.regexp_replace(words, uuid, "<id>", "g", type_=Text)
    return func.regexp_replace(found, "\\mrow [0-9]+", "row N", "g", type_=Text)
