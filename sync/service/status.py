"""How each connection is doing, for `status` and for whoever watches the daemon; told by `sync.service.heartbeat`."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, Double, ScalarSelect, Table, case, cast, exists, func, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit.tables import audits
from sync.connection.tables import connections, incarnation
from sync.mirror.skipped import is_in_force
from sync.mirror.tables import (
    connection_coverage,
    coverage,
    plans,
    rejected_records,
    skipped,
    voucher_assignments,
    voucher_codes,
    vouchers,
    windows,
)
from sync.outbox.rules import Status
from sync.outbox.tables import outbox
from sync.service.runs import Run, last_runs

S = TypeVar("S")

LAST_RUNS = 10
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One connection as it stands in the database; ages in seconds by the database's clock, None where unknown.

    `state` is `ok`, `failing`, or `unknown` where no process has told yet how its first run ended. `caught_up_age_s`:
    since the last pull that left nothing to read. `outbox` counts changes that nobody may forget by their status, and
    `held` those that are held by why they are; those that no connection knows yet count for each. `gap`: `copy` or
    `behind` for a database that is to be adopted.
    """

    name: str
    state: str
    state_since: datetime | None
    error: str | None
    heartbeat_age_s: float | None
    caught_up_age_s: float | None
    caught_up_through: datetime | None
    vouchers: int
    voucher_codes: int
    open_windows: int
    complete_through: datetime | None
    skipped: int
    rejected_records: int
    audited_since: datetime | None
    audit_drift: int | None
    audit_braked: str | None
    gap: str | None
    outbox: dict[str, int]
    held: dict[str, int]
    last_runs: list[Run]


async def load_status(transaction: AsyncConnection) -> list[ConnectionStatus]:
    """Every connection that has ever been used, by name; also one of which no process has told anything yet."""
    known = union(select(connections.c.name), select(vouchers.c.connection)).subquery("known")
    name = known.c.name
    open_windows = (
        select(func.count()).select_from(windows).join(plans).where(plans.c.connection == name).scalar_subquery()
    )
    rows = await transaction.execute(
        select(
            name,
            func.coalesce(connections.c.state, UNKNOWN).label("state"),
            connections.c.state_since,
            connections.c.error,
            _age_s(connections.c.heartbeat_at).label("heartbeat_age_s"),
            _age_s(connections.c.caught_up_as_of).label("caught_up_age_s"),
            connections.c.caught_up_through,
            _count_of(name, vouchers).label("vouchers"),
            _count_of(name, voucher_codes).label("voucher_codes"),
            open_windows.label("open_windows"),
            _complete_through(name).label("complete_through"),
            _count_of(name, skipped, is_in_force()).label("skipped"),
            _count_of(name, rejected_records).label("rejected_records"),
            _whole(name, connection_coverage.c.audited_since).label("audited_since"),
            _whole(name, connection_coverage.c.last_audit_drift).label("audit_drift"),
            _last_braked(name).label("audit_braked"),
            select(incarnation.c.gap).scalar_subquery().label("gap"),
        )
        .select_from(known.outerjoin(connections, connections.c.name == name))
        .order_by(name)
    )
    queued, held = await _count_outbox(transaction)
    return [
        ConnectionStatus(
            **row._mapping,
            outbox=dict(queued[row.name] + queued[None]),
            held=dict(held[row.name] + held[None]),
            last_runs=await last_runs(transaction, row.name, LAST_RUNS),
        )
        for row in rows.all()
    ]


async def count_without_rate(transaction: AsyncConnection) -> int:
    """How many active vouchers give access to no rate, so that nobody can book anything by their codes."""
    has_rate = exists().where(voucher_assignments.c.voucher_id == vouchers.c.id)
    counted = select(func.count()).select_from(vouchers).where(vouchers.c.is_active, ~has_rate)
    return int((await transaction.execute(counted)).scalar_one())


def _complete_through(name: ColumnElement[str]) -> ScalarSelect[datetime]:
    # A voucher that is not begun has no instant, and hides that of all the others.
    are_all_begun = func.bool_and(coverage.c.complete_through.is_not(None))
    oldest = select(case((are_all_begun, func.min(coverage.c.complete_through))))
    return oldest.where(coverage.c.connection == name, coverage.c.skipped_because.is_(None)).scalar_subquery()


async def _count_outbox(
    transaction: AsyncConnection,
) -> tuple[defaultdict[str | None, Counter[str]], defaultdict[str | None, Counter[str]]]:
    """By connection (None: not known), the changes in each status, and those that are held by why they are; of those
    done or cancelled nobody need think.
    """
    counted = outbox.c.status.not_in([Status.DONE, Status.CANCELLED])
    columns = (outbox.c.connection, outbox.c.status, outbox.c.held_because)
    queued: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    held: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    query = select(*columns, func.count()).where(counted).group_by(*columns)
    for connection, status, held_because, count in await transaction.execute(query):
        queued[connection][status] += count
        if held_because:
            held[connection][held_because] += count
    return queued, held


def _age_s(instant: ColumnElement[datetime]) -> ColumnElement[float]:
    return cast(func.extract("epoch", func.now() - instant), Double)


def _whole(name: ColumnElement[str], column: ColumnElement[S]) -> ScalarSelect[S]:
    return select(column).where(connection_coverage.c.connection == name).scalar_subquery()


def _last_braked(name: ColumnElement[str]) -> ScalarSelect[str]:
    finished = (audits.c.connection == name, audits.c.finished_at.is_not(None))
    return select(audits.c.braked).where(*finished).order_by(audits.c.id.desc()).limit(1).scalar_subquery()


def _count_of(name: ColumnElement[str], table: Table, *conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).select_from(table).where(table.c.connection == name, *conditions).scalar_subquery()
