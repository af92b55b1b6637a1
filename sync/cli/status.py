"""`voucher-sync status`."""

import asyncio
import json
import signal
import sys
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.cli import event_loop, streams
from sync.cli.database import open_database
from sync.cli.status_text import as_text, width_of
from sync.cli.terminal import for_json, is_shown_to_somebody
from sync.core.cron import Cron
from sync.core.errors import VoucherSyncError
from sync.core.plurals import plural
from sync.postgres.engine import in_transaction, make_engine
from sync.postgres.snapshot import snapshot
from sync.service.status.facts import ConnectionStatus, Overview
from sync.service.status.load import load_overview
from sync.service.status.notes import notes_on_unassigned
from sync.service.status.reasons import with_reasons
from sync.service.status.verdict import Level, is_served, judge_connection
from sync.settings import Settings, load_settings

WATCH_EVERY_S = 2.0
EVERY = f"Every {WATCH_EVERY_S:g} s; Ctrl-C ends it."
NEEDS_SOMEBODY = 3
"""Exit code of `--strict` where nothing fails and something is held, failed or drifted."""


def status(*, as_json: bool, healthy: bool, watch: bool, strict: bool, name: str | None) -> None:
    """Print how every connection is doing, and exit with 1 if one is failing or nothing goes on; with `healthy`, if no
    daemon is alive; with `strict`, with 3 if somebody must look at something. `name`: tell of this connection alone.
    """
    settings = load_settings()
    with open_database(settings) as url:
        if watch:
            with suppress(KeyboardInterrupt, asyncio.CancelledError):
                event_loop.run(_watch(url, settings, name))
            return
        overview = event_loop.run(_load_once(url, name, settings.sync_audit_cron, is_whole=as_json))
    lease_s = settings.sync_lease_s
    if healthy:
        sys.exit(0 if _is_healthy(overview, lease_s) else 1)
    if as_json:
        click.echo(json.dumps([_for_json(one, overview, lease_s) for one in overview.connections], default=for_json))
    else:
        click.echo("\n".join(as_text(overview, lease_s, width_of(Console()))))
    sys.exit(_exit_code(overview, lease_s, strict=strict))


def _is_healthy(overview: Overview, lease_s: float) -> bool:
    """Whether a daemon is alive that has written so for a connection, or has none to write it for."""
    at_work = [one for one in overview.connections if one.paused_at is None]
    return any(is_served(one, overview, lease_s) for one in at_work) or (not at_work and bool(overview.alive))


def _exit_code(overview: Overview, lease_s: float, *, strict: bool) -> int:
    verdicts = [judge_connection(one, overview, lease_s) for one in overview.connections]
    worst = max((verdict.level for verdict in verdicts), default=Level.OK)
    if worst >= Level.DEGRADED:
        return 1
    # Nothing there and nobody at work: the database may be the wrong one.
    has_notes = any(verdict.notes for verdict in verdicts) or any(notes_on_unassigned(overview))
    needs_somebody = has_notes or not (verdicts or overview.alive)
    return NEEDS_SOMEBODY if strict and needs_somebody else 0


async def _watch(url: str, settings: Settings, name: str | None) -> None:
    """Print again and again, as long as somebody reads it; in the same place, on a terminal.

    A SIGTERM ends it as Ctrl-C does: killed by that, it would leave the terminal on its other screen, without a cursor.
    """
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    engine, console = make_engine(url), Console()
    # At a terminal that can move no cursor (TERM=dumb) rich would draw nothing at all.
    is_drawn = is_shown_to_somebody() and not console.is_dumb_terminal
    live = Live(console=console, auto_refresh=False, screen=True, transient=True) if is_drawn else None
    try:
        with live or nullcontext():
            while streams.is_read():
                lines = await _shown(engine, settings, name, console)
                if live:
                    live.update(_screenful(lines, console), refresh=True)
                else:
                    click.echo("\n".join([*lines, "", f"{EVERY}\n"]))
                await asyncio.sleep(WATCH_EVERY_S)
    finally:
        await engine.dispose()


async def _shown(engine: AsyncEngine, settings: Settings, name: str | None, console: Console) -> list[str]:
    try:
        return as_text(await look(engine, name, settings.sync_audit_cron), settings.sync_lease_s, width_of(console))
    except VoucherSyncError as error:
        return [f"Error: {error}"]


def _screenful(lines: list[str], console: Console) -> Text:
    """As many lines as the screen has room for, of which the first are the most urgent, and how many it has not."""
    rows = Text("\n".join(lines)).wrap(console, console.width)
    left_out = len(rows) - console.height + 2
    more = f"... {plural(left_out, 'more line')}, shown without --watch. " if left_out > 0 else ""
    return Text("\n").join([*rows[: console.height - 2], Text(), Text(f"{more}{EVERY}", no_wrap=True)])


async def _load_once(url: str, name: str | None, cron: str, *, is_whole: bool) -> Overview:
    engine = make_engine(url)
    try:
        return await look(engine, name, cron, is_whole=is_whole)
    finally:
        await engine.dispose()


async def look(engine: AsyncEngine, name: str | None, cron: str, *, is_whole: bool = False) -> Overview:
    """What there is; `is_whole`: with the details of each connection, else of the one that is named or alone."""
    detailed = None if is_whole and name is None else [] if name is None else [name]

    async def load(tx: AsyncConnection) -> Overview:
        overview = await load_overview(tx, detailed, of_the_only_one=True)
        return overview if name else await with_reasons(tx, overview)

    overview = _with_next_audits(await in_transaction(engine, load, snapshot), cron)
    if name is None:
        return overview
    named = [one for one in overview.connections if one.name == name]
    if not named:
        raise VoucherSyncError(f"there is no connection {name!r}: `voucher-sync status` lists them")
    return replace(overview, connections=named)


def _with_next_audits(overview: Overview, cron: str) -> Overview:
    """With the next audits by this process's settings, as `check` tells them, where no daemon tells of its own."""
    if overview.alive:
        return overview
    next_at = Cron(cron).next_after(overview.now)
    told = [
        one if one.paused_at else replace(one, details=replace(one.details, next_audit_at=next_at))
        for one in overview.connections
    ]
    return replace(overview, connections=told)


def _for_json(one: ConnectionStatus, overview: Overview, lease_s: float) -> dict[str, Any]:
    """One connection, the fields of its parts among its own, with the verdict and the daemons that run."""
    values = asdict(one)
    for part in ("mirror", "backlog", "details"):
        values |= values.pop(part)
    verdict = judge_connection(one, overview, lease_s)
    told = {**asdict(verdict), "level": verdict.level.name.lower()}
    daemons = [asdict(daemon) for daemon in overview.daemons]
    of_all = {"daemons": daemons, "revision": overview.revision, "unassigned": overview.unassigned}
    return {**values, "verdict": told, **of_all}
