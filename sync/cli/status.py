"""`voucher-sync status`."""

import asyncio
import json
import sys
from dataclasses import asdict
from datetime import datetime

import click
from rich.console import Console
from rich.table import Table

from sync.cli.database import open_database
from sync.outbox.rules import HeldBecause
from sync.postgres.engine import make_engine, transaction
from sync.service.runs import Run
from sync.service.status import ConnectionStatus, load_status
from sync.settings import Settings, load_settings

UNITS = {"days": 86_400, "hours": 3_600, "minutes": 60}
GAPS = {
    "copy": "NOT ADOPTED: it was restored or copied, so nothing is sent; see `voucher-sync adopt`",
    "behind": "has lost commits: what was queued before is held; see `voucher-sync adopt`",
}
HELD = {
    HeldBecause.TOO_MANY_DELETES: "too many deletes at once",
    HeldBecause.BEFORE_A_GAP: "from before the database was restored, copied or lost commits",
}
TOLD_OF_NONE = {"drift"}
"""Counts that are told of a run even when they are 0: that an audit found no drift is what it was for."""


def status(*, as_json: bool, healthy: bool) -> None:
    """Print how every connection is doing, and exit with 1 if one is failing, or if nothing is sent before the database
    is adopted; with `healthy`, if no daemon is alive.
    """
    settings = load_settings()
    with open_database(settings) as url:
        statuses = asyncio.run(_load(url))
    if healthy:
        sys.exit(0 if any(_is_alive(one, settings) for one in statuses) else 1)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in statuses], default=datetime.isoformat))
    else:
        _print(statuses, settings)
    sys.exit(1 if any(one.state == "failing" or one.gap for one in statuses) else 0)


async def _load(url: str) -> list[ConnectionStatus]:
    engine = make_engine(url)
    try:
        async with transaction(engine) as tx:
            return await load_status(tx)
    finally:
        await engine.dispose()


def _is_alive(one: ConnectionStatus, settings: Settings) -> bool:
    # Ahead of the database's clock, as where that was set back, it is no sign of life: the next one would be right.
    return one.heartbeat_age_s is not None and abs(one.heartbeat_age_s) <= settings.sync_lease_s


def _print(statuses: list[ConnectionStatus], settings: Settings) -> None:
    if not statuses:
        click.echo("Nothing has been mirrored yet: start `voucher-sync run`, or `voucher-sync once`.")
        return
    for one in statuses:
        table = Table("connection", one.name, title_justify="left", show_header=True)
        table.add_row("state", _state(one))
        if one.error:
            table.add_row("error", one.error)
        if one.gap:
            table.add_row("database", GAPS[one.gap])
        table.add_row("daemon", _daemon(one, settings))
        table.add_row("last pull", _pull(one))
        table.add_row("complete through", _instant(one.complete_through))
        table.add_row("vouchers", f"{one.vouchers:,}")
        table.add_row("codes", f"{one.voucher_codes:,}")
        table.add_row("open windows", f"{one.open_windows:,}")
        table.add_row("skipped", f"{one.skipped:,} services and vouchers")
        table.add_row("rejected records", f"{one.rejected_records:,}")
        table.add_row("audit", _audit(one))
        table.add_row("outbox", _outbox(one))
        Console().print(table)
        if one.last_runs:
            click.echo("last runs that changed something or failed, the newest first:")
        for run in one.last_runs:
            click.echo(f"{_instant(run.finished_at)}  {run.kind}: {_run(run)}")


def _state(one: ConnectionStatus) -> str:
    if one.state_since is None:
        return f"{one.state}: no run has told yet how it ended; start `voucher-sync run`, or `voucher-sync once`"
    return f"{one.state} since {_instant(one.state_since)}{_first_backfill(one)}"


def _first_backfill(one: ConnectionStatus) -> str:
    """That what is mirrored is not all yet, where nothing fails and yet no pull has ever reached the present."""
    if one.state != "ok" or one.caught_up_age_s is not None:
        return ""
    if not one.vouchers:
        return ", but no voucher is known yet"
    left = f"{one.open_windows:,} windows are left to read" if one.open_windows else "not begun, or just about to end"
    return f", in the first backfill ({left}): not all codes are here yet"


def _pull(one: ConnectionStatus) -> str:
    if one.caught_up_age_s is None:
        return "none has caught up yet"
    return f"caught up {_ago(one.caught_up_age_s)}"


def _daemon(one: ConnectionStatus, settings: Settings) -> str:
    if one.heartbeat_age_s is None:
        return "never seen"
    heard = f"last heard of {_ago(one.heartbeat_age_s)}"
    if _is_alive(one, settings):
        return f"alive, {heard}"
    # Where nothing can be written, it cannot be noted either that something fails: all the rest here is as old as that.
    return f"SILENT, {heard}: it has ended, hangs, or cannot write to this database; see `voucher-sync check`"


def _run(run: Run) -> str:
    told = {name: count for name, count in run.counts.items() if count or name in TOLD_OF_NONE}
    counts = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in told.items())
    error = run.error and f"FAILED: {run.error}"
    return "; ".join(part for part in (counts, f"{run.lasted_s:,.1f} s", error) if part)


def _audit(one: ConnectionStatus) -> str:
    if one.audit_braked:
        return f"BRAKED: {one.audit_braked}"
    if one.audited_since is None:
        return "not every voucher was audited yet"
    return f"all since {_instant(one.audited_since)}, {one.audit_drift or 0:,} codes had drifted"


def _outbox(one: ConnectionStatus) -> str:
    queued = ", ".join(f"{count:,} {status}" for status, count in sorted(one.outbox.items())) or "nothing waits"
    if one.held:
        reasons = ", ".join(f"{count:,} {HELD[HeldBecause(because)]}" for because, count in sorted(one.held.items()))
        queued += f": {reasons}; see `voucher-sync outbox list --status held`"
    elif one.outbox.get("failed"):
        queued += ": refused for good; see `voucher-sync outbox list --status failed`"
    return queued


def _ago(seconds: float) -> str:
    """A time since, in the largest unit that still tells it well."""
    if seconds < -1:
        return f"{-seconds:,.0f} s ahead (the database's clock was set back)"
    for unit, length_s in UNITS.items():
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:,.0f} {unit} ago"
    return f"{max(seconds, 0):,.0f} s ago"


def _instant(value: datetime | None) -> str:
    return "unknown" if value is None else f"{value:%Y-%m-%d %H:%M:%S} UTC"
