"""`voucher-sync once`."""

import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from functools import partial

import click

from sync import logs
from sync.cli import event_loop
from sync.cli.database import open_database
from sync.cli.once_outcome import Outcome, Outcomes
from sync.cli.others import await_others
from sync.cli.progress import call_progress, followed, pull_progress
from sync.connection.connection import Connection
from sync.core.api_errors import ApiError
from sync.core.errors import SettingsError, VoucherSyncError
from sync.core.plurals import in_seconds
from sync.mirror.pull_report import PullReport
from sync.outbox.bulk.campaign import waiting_by_lane
from sync.outbox.claims import as_daemon
from sync.outbox.completer import PushReport
from sync.outbox.unfinished import load_unfinished
from sync.postgres.engine import in_transaction
from sync.service import app, states
from sync.service.opened import open_connections, require_tokens
from sync.service.outbox_worker import OutboxJobs
from sync.service.stopping import stop_on
from sync.settings import Settings, load_settings
from sync.signals import Signal
from sync.tracing import tracing

PushAll = Callable[[], Awaitable[PushReport]]
SENT_BEFORE = "what was sent before that may not show in the API yet"
AT_ONCE = 8
"""Connections that have their cycle at the same time; each is within the budget of its own token."""


def once(*, as_json: bool, accept_enterprises: bool, name: str | None) -> None:
    """Do one full cycle, print what it did, and exit with 0 only if all of it succeeded."""
    settings = load_settings()
    require_tokens(settings)
    logs.configure(settings.sync_log_format, "warning" if sys.stderr.isatty() else settings.sync_log_level)
    with tracing(), open_database(settings, may_create=True) as url:
        outcome = event_loop.run(_once(settings, url, name, accept_enterprises=accept_enterprises))
    click.echo(json.dumps(outcome.summary()) if as_json else outcome.sentence())
    for error in outcome.errors:
        click.echo(f"Error: {error}", err=True)
    sys.exit(0 if outcome.is_complete else 1)


async def _once(settings: Settings, url: str, name: str | None, *, accept_enterprises: bool) -> Outcome | Outcomes:
    stop = Signal()
    async with open_connections(settings, url, stop, name=name, accept_enterprises=accept_enterprises) as opened:
        # Until here nothing is under way that is to be finished: waiting for a database that is silent, it just ends.
        stop_on((signal.SIGTERM,), stop)
        if accept_enterprises and not opened.is_single:
            raise SettingsError("--accept-enterprises is for one connection: name it with --connection")
        if opened.is_single:
            return await _cycle(settings, opened.connections[0], shows_progress=True)
        at_once = asyncio.Semaphore(AT_ONCE)

        async def one(connection: Connection) -> tuple[str, Outcome]:
            async with at_once:
                try:
                    return connection.name, await _cycle(settings, connection, shows_progress=False)
                except VoucherSyncError as error:  # what ends one ends no other
                    return connection.name, Outcome(None, None, PushReport(), [error])

        return Outcomes(dict(await asyncio.gather(*map(one, opened.connections))), opened.unopened)


async def _cycle(settings: Settings, connection: Connection, *, shows_progress: bool) -> Outcome:
    """Of several at once none shows its progress: a terminal has room for one."""
    jobs = app.make_jobs(connection, settings)
    discovered = await jobs.discover()
    await _await_server(connection)
    with pull_progress(connection.client) if shows_progress else nullcontext(_show_nothing) as on_progress:
        pulled = await jobs.pull_turn(on_progress=on_progress) if discovered else None
    push_all = partial(jobs.outbox.push_all, partial(jobs.outbox.refresh, jobs.discover, jobs.pull_turn))
    pushed = await (_push(connection, jobs.outbox, push_all) if shows_progress else push_all())
    if pulled and pulled.caught_up:
        note = partial(states.note_caught_up, name=connection.name, caught_up=pulled.caught_up)
        await in_transaction(connection.engine, note)
    return Outcome(discovered, pulled, pushed, _each_once([*jobs.health.errors, *pushed.errors.values()]))


async def _await_server(connection: Connection) -> None:
    """Where something is to be sent, and the server is another or was started anew, wait for who knows it, and until a
    pull shows what was sent to one that is gone.
    """
    incarnation, engine, is_concerned = connection.incarnation, connection.engine, True
    with suppress(VoucherSyncError):  # the pull tells of it
        await incarnation.check(engine)
        is_concerned = (await in_transaction(engine, load_unfinished, as_daemon)).concerns(connection.name)
        if is_concerned:
            await await_others(connection)
    is_concerned = is_concerned and incarnation.is_worked_with  # from a copy nothing is sent
    if is_concerned and (wait_s := incarnation.shows_in_s):
        click.echo(
            f"Waiting for {in_seconds(round(wait_s, 1))}: another server has taken over, and {SENT_BEFORE}.", err=True
        )
        with suppress(TimeoutError):
            await asyncio.wait_for(connection.stop.wait(), wait_s)


def _show_nothing(_: PullReport) -> None:
    pass


async def _push(connection: Connection, jobs: OutboxJobs, push_all: PushAll) -> PushReport:
    waiting = sum(await in_transaction(connection.engine, waiting_by_lane))
    with call_progress("Pushing", "changes", connection.client) as show:
        # What follows others, and what others queue meanwhile, comes to it.
        return await followed(push_all(), lambda: show(jobs.ended, max(waiting, jobs.ended)))


def _each_once(errors: list[VoucherSyncError]) -> list[VoucherSyncError]:
    """Of errors that only differ in their Request-Id, as where each job meets the same refused token, the first."""
    shown: dict[str, VoucherSyncError] = {}
    for error in errors:
        request = f" [Request-Id {error.request_id}]" if isinstance(error, ApiError) else ""
        shown.setdefault(str(error).removesuffix(request), error)
    return [*shown.values()]
