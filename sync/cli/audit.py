"""`voucher-sync audit`: every code compared with the API's, and mended if asked for."""

import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import click
from rich.table import Table
from rich.text import Text

from sync import logs
from sync.audit.compare import DRIFT, Difference
from sync.audit.context import AuditSettings
from sync.audit.report import AuditReport, VoucherReport
from sync.audit.run import audit as run_audit
from sync.audit.store import require_begun
from sync.cli import event_loop
from sync.cli.database import open_database
from sync.cli.progress import Show, call_progress
from sync.cli.terminal import as_cell, print_table
from sync.connection.connection import Connection
from sync.connection.guard import verify
from sync.core.errors import Stopped, VoucherSyncError
from sync.core.plurals import plural
from sync.mirror.voucher_names import names_of
from sync.postgres.engine import in_transaction
from sync.service import app
from sync.service.history import History
from sync.service.opened import open_connections, require_tokens
from sync.service.states import is_daemon_heard
from sync.service.stopping import stop_on
from sync.settings import Settings, load_settings
from sync.signals import Signal

MAX_SHOWN = 50


def audit(*, repair: bool, accept_loss: bool, as_json: bool, name: str | None) -> None:
    """Compare, print what was found, and exit with 1 unless nothing has drifted or all of it was mended."""
    settings = load_settings()
    require_tokens(settings)
    logs.configure(settings.sync_log_format, "warning" if sys.stderr.isatty() else settings.sync_log_level)
    with open_database(settings) as url:
        how = replace(app.audit_settings(settings), repair=repair, accept_loss=accept_loss)
        report, names, others = event_loop.run(_audit_all(settings, url, how, name))
    if as_json:
        click.echo(json.dumps(_summary(report, others)))
    else:
        _print(report, names)
    for error in [*report.errors, *others]:
        click.echo(f"Error: {error}", err=True)
    if report.braked:
        click.echo(f"Error: {report.braked}", err=True)
    sys.exit(0 if report.is_clean and not others else 1)


async def _audit_all(
    settings: Settings, url: str, how: AuditSettings, name: str | None
) -> tuple[AuditReport, dict[UUID, str], list[str]]:
    """What was found in all connections, the names of vouchers, and why connections could not be compared at all."""
    stop = Signal()
    report, names = AuditReport(), dict[UUID, str]()
    async with open_connections(settings, url, stop, name=name) as opened:
        # Until here nothing is under way that is to be finished: waiting for a database that is silent, it just ends.
        stop_on((signal.SIGTERM,), stop)
        uncompared = [str(error) for error in opened.unopened.values()]
        for connection in opened.connections:
            try:
                found = await _audit(settings, connection, how)
            except VoucherSyncError as error:
                if opened.is_single or isinstance(error, Stopped):
                    raise
                uncompared.append(f"connection {connection.name}: {error}")
                continue
            if opened.is_single:
                report = found
            else:
                report.add(connection.name, found)
            names |= await in_transaction(connection.engine, partial(names_of, voucher_ids=list(found.vouchers)))
    return report, names, uncompared


async def _audit(settings: Settings, connection: Connection, how: AuditSettings) -> AuditReport:
    history, began_s = History(connection), time.monotonic()
    try:
        with call_progress("Comparing", "vouchers", connection.client) as show:
            await verify(connection)
            await in_transaction(connection.engine, partial(require_begun, connection=connection.name))
            if not await in_transaction(connection.engine, lambda tx: is_daemon_heard(tx, settings.sync_lease_s)):
                # Two processes share the budget evenly, and a daemon's pushes are not to wait for an audit.
                connection.client.rate_limiter.lift_audit_share()
            report = await run_audit(connection, how, partial(_show, show))
    except Stopped:
        raise
    except VoucherSyncError as error:
        await history.note("audit", began_s, {}, error, is_news=True)
        raise
    await history.note("audit", began_s, report.totals(), report.error, is_news=True)
    return report


def _show(show: Show, report: AuditReport) -> None:
    show(report.vouchers_done, report.vouchers_done + report.vouchers_left, report.codes)


def _counts(voucher: VoucherReport) -> dict[str, Any]:
    return {
        **{difference.value: voucher.counts[difference] for difference in Difference},
        "columns": dict(voucher.columns),
        "repaired": voucher.repaired,
        "error": str(voucher.error) if voucher.error else None,
    }


def _summary(report: AuditReport, others: Sequence[str]) -> dict[str, Any]:
    """What a script may want to know; `others`: why connections could not be compared at all."""
    return {
        "ok": report.is_clean and not others,
        "errors": [*map(str, report.errors), *others],
        "left_out": report.left_out,
        "drift": report.drift,
        "repaired": report.repaired,
        "braked": report.braked,
        "vouchers": {str(voucher_id): _counts(voucher) for voucher_id, voucher in report.vouchers.items()},
    }


def _print(report: AuditReport, names: Mapping[UUID, str]) -> None:
    drifted = [voucher for voucher in report.vouchers.values() if voucher.drift]
    if drifted:
        table = Table("voucher", "equal", "differing", "only in the mirror", "only in the API", "repaired", "columns")
        for voucher in sorted(drifted, key=lambda one: -one.drift)[:MAX_SHOWN]:
            differences = (Difference.EQUAL, Difference.DIFFERING, Difference.ONLY_MIRRORED, Difference.ONLY_LISTED)
            counts = [f"{voucher.counts[difference]:,}" for difference in differences]
            columns = ", ".join(f"{name} {count:,}" for name, count in sorted(voucher.columns.items()))
            name = Text(as_cell(names.get(voucher.voucher_id, voucher.voucher_id)))
            table.add_row(name, *counts, f"{voucher.repaired:,}", columns)
        print_table(table)
        if len(drifted) > MAX_SHOWN:
            click.echo(f"... and {plural(len(drifted) - MAX_SHOWN, 'more voucher')}; --json lists them all")
    click.echo(_sentence(report))


def _sentence(report: AuditReport) -> str:
    total = {
        difference: sum(voucher.counts[difference] for voucher in report.vouchers.values()) for difference in Difference
    }
    compared = sum(total[difference] for difference in Difference if difference is not Difference.RECENT)
    beside = (
        f"; {total[Difference.RECENT]:,} changed just now and are left to the pull" if total[Difference.RECENT] else ""
    )
    if total[Difference.REFUSED]:
        beside += f"; {total[Difference.REFUSED]:,} that something on the table refuses, see sync.rejected_records"
    if report.left_out:
        beside += f"; {plural(report.left_out, 'voucher')} left out, which the API does not show at present"
    done = f"{plural(compared, 'code')} of {plural(len(report.vouchers), 'voucher')} compared"
    if not report.drift:
        return f"{done}, no drift{beside}."
    drift = sum(total[difference] for difference in DRIFT)
    mended = f"{report.repaired:,} repaired" if report.repaired else "nothing repaired"
    return f"{done}: {drift:,} drifted, {mended}{beside}."
