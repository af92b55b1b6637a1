"""How each connection is doing, for `status` and for whoever watches the daemon."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import ColumnElement, Double, ScalarSelect, Table, case, cast, exists, func, or_, select, union, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.db.audit_tables import audits
from sync.db.outbox_tables import outbox
from sync.db.runs import Run, last_runs
from sync.db.skipped import is_in_force
from sync.db.tables import (
    connection_coverage,
    connections,
    coverage,
    plans,
    rejected_records,
    skipped,
    voucher_codes,
    vouchers,
    windows,
)
from sync.model.outbox import Status

S = TypeVar("S")

LAST_RUNS = 10
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """A pull that left nothing to read: begun at `as_of` by the database's clock, it reached `through` by the server's.

    Every voucher whose watermark existed at `as_of`, and which was not skipped, is complete through `through`.
    """

    as_of: datetime
    through: datetime


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One connection as it stands in the database; ages in seconds by the database's clock, None where unknown.

    `state` is `ok`, `failing`, or `unknown` where no process has told yet how its first run ended. `caught_up_age_s`:
    since the last pull that left nothing to read. `outbox` counts changes that nobody may forget by their status; those
    that no connection knows yet count for each.
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
    outbox: dict[str, int]
    last_runs: list[Run]


async def set_state(transaction: AsyncConnection, name: str, error: str | None) -> None:
    """Note that a connection works, or why it does not. Writes only a change."""
    state = _state(error)
    statement = insert(connections).values(name=name, state=state["state"], error=error)
    is_new = or_(connections.c.state != state["state"], connections.c.error.is_distinct_from(error))
    await transaction.execute(
        statement.on_conflict_do_update(index_elements=[connections.c.name], set_=state, where=is_new)
    )


async def beat(
    transaction: AsyncConnection, name: str, caught_up: CaughtUp | None, verdict: tuple[str | None] | None = None
) -> None:
    """Note that a daemon is alive, and how far it has caught up; one row, written in place.

    `verdict`: why the connection fails, or None within, since it works; None: not known. Said with every beat, since
    another process, as a `once` with settings of its own, may have noted what it met.
    """
    state = _state(*verdict) if verdict else {}
    await _note(transaction, name, {"heartbeat_at": func.now(), **state}, caught_up)


async def note_caught_up(transaction: AsyncConnection, name: str, caught_up: CaughtUp) -> None:
    """Note how far a single cycle has caught up, which leaves no daemon behind."""
    await _note(transaction, name, {}, caught_up)


def _state(error: str | None) -> dict[str, object]:
    """What a connection's row says of its state, since it first was so."""
    state = "failing" if error else "ok"
    since = case((connections.c.state == state, connections.c.state_since), else_=func.now())
    return {"state": state, "error": error, "state_since": since}


async def _note(transaction: AsyncConnection, name: str, values: dict[str, object], caught_up: CaughtUp | None) -> None:
    if caught_up:
        values |= {"caught_up_as_of": caught_up.as_of, "caught_up_through": caught_up.through}
    new = {"name": name, "state": "ok", **values, "state_since": func.now()}
    statement = insert(connections).values(new)
    await transaction.execute(statement.on_conflict_do_update(index_elements=[connections.c.name], set_=values))


async def touch(transaction: AsyncConnection) -> None:
    """Write what stands there already, to see whether the database takes anything."""
    await transaction.execute(update(connections).values(error=connections.c.error))


async def is_daemon_heard(transaction: AsyncConnection, within_s: float) -> bool:
    """Whether a daemon has reported for any connection within this time."""
    heard = connections.c.heartbeat_at > func.now() - timedelta(seconds=within_s)
    return bool((await transaction.execute(select(exists().where(heard)))).scalar_one())


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
            # A voucher that is not begun has no instant, and hides that of all the others.
            select(
                case((func.bool_and(coverage.c.complete_through.is_not(None)), func.min(coverage.c.complete_through)))
            )
            .where(coverage.c.connection == name, coverage.c.skipped_because.is_(None))
            .scalar_subquery()
            .label("complete_through"),
            _count_of(name, skipped, is_in_force()).label("skipped"),
            _count_of(name, rejected_records).label("rejected_records"),
            _whole(name, connection_coverage.c.audited_since).label("audited_since"),
            _whole(name, connection_coverage.c.last_audit_drift).label("audit_drift"),
            _last_braked(name).label("audit_braked"),
        )
        .select_from(known.outerjoin(connections, connections.c.name == name))
        .order_by(name)
    )
    queued = await _count_outbox(transaction)
    return [
        ConnectionStatus(
            **row._mapping,
            outbox=dict(queued.get(row.name, Counter()) + queued.get(None, Counter())),
            last_runs=await last_runs(transaction, row.name, LAST_RUNS),
        )
        for row in rows.all()
    ]


async def _count_outbox(transaction: AsyncConnection) -> dict[str | None, Counter[str]]:
    """By connection (None: not known), the changes in each status; of those done or cancelled nobody need think."""
    counted = outbox.c.status.not_in([Status.DONE, Status.CANCELLED])
    columns = (outbox.c.connection, outbox.c.status)
    counts: defaultdict[str | None, Counter[str]] = defaultdict(Counter)
    for row in await transaction.execute(
        select(*columns, func.count().label("count")).where(counted).group_by(*columns)
    ):
        counts[row.connection][row.status] = row[2]
    return counts


def _age_s(instant: ColumnElement[datetime]) -> ColumnElement[float]:
    return cast(func.extract("epoch", func.now() - instant), Double)


def _whole(name: ColumnElement[str], column: ColumnElement[S]) -> ScalarSelect[S]:
    return select(column).where(connection_coverage.c.connection == name).scalar_subquery()


def _last_braked(name: ColumnElement[str]) -> ScalarSelect[str]:
    finished = (audits.c.connection == name, audits.c.finished_at.is_not(None))
    return select(audits.c.braked).where(*finished).order_by(audits.c.id.desc()).limit(1).scalar_subquery()


def _count_of(name: ColumnElement[str], table: Table, *conditions: ColumnElement[bool]) -> ScalarSelect[int]:
    return select(func.count()).select_from(table).where(table.c.connection == name, *conditions).scalar_subquery()
