"""`voucher-sync once`."""

import asyncio
import json
import signal
import sys
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import click

from sync import logs
from sync.cli.database import open_database
from sync.cli.progress import call_progress, followed, pull_progress
from sync.connection.connection import Connection
from sync.core.errors import ApiError, VoucherSyncError
from sync.mirror.discover import DiscoverReport
from sync.mirror.pull_report import PullReport
from sync.outbox.bulk.campaign import waiting_by_lane
from sync.outbox.completer import PushReport
from sync.postgres.engine import in_transaction
from sync.service import app, heartbeat
from sync.service.outbox_worker import OutboxJobs
from sync.settings import Settings, load_settings
from sync.tracing import tracing


def once(*, as_json: bool, accept_enterprises: bool) -> None:
    """Do one full cycle, print what it did, and exit with 0 only if all of it succeeded."""
    settings = load_settings()
    app.credentials(settings)
    logs.configure(settings.sync_log_format, "warning" if sys.stderr.isatty() else settings.sync_log_level)
    with tracing(), open_database(settings, may_create=True) as url:
        outcome = asyncio.run(_once(settings, url, accept_enterprises=accept_enterprises))
    click.echo(json.dumps(outcome.summary()) if as_json else outcome.sentence())
    for error in outcome.errors:
        click.echo(f"Error: {error}", err=True)
    sys.exit(0 if outcome.is_complete else 1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one cycle did."""

    discovered: DiscoverReport | None
    pulled: PullReport | None
    pushed: PushReport
    errors: list[VoucherSyncError]

    @property
    def is_complete(self) -> bool:
        """Whether the mirror is caught up, and everything that was due is pushed."""
        is_caught_up = self.discovered is not None and self.pulled is not None and self.pulled.caught_up is not None
        return is_caught_up and not self.pushed.errors

    def summary(self) -> dict[str, Any]:
        """Counts for scripts."""
        return {
            "ok": self.is_complete,
            "discovered": _counts(self.discovered),
            "pulled": _counts(self.pulled),
            "pushed": {name: value for name, value in asdict(self.pushed).items() if isinstance(value, int)},
            "errors": [str(error) for error in self.errors],
        }

    def sentence(self) -> str:
        """Counts for people."""
        if self.pulled is None or self.discovered is None:
            return "Nothing was pulled."
        windows = f"{self.pulled.windows_done} of {self.pulled.windows_planned} windows"
        return (
            f"{self.discovered.vouchers} vouchers, {windows}, {self.pulled.codes} codes read, "
            f"{self.pulled.written} rows written{'' if self.is_complete else '; not caught up'}."
            f"{self._rejected()}{self._pushed()}"
        )

    def _rejected(self) -> str:
        number = sum(report.rejected for report in (self.discovered, self.pulled) if report)
        return f" New records that cannot be stored: {number}; see sync.rejected_records." if number else ""

    def _pushed(self) -> str:
        pushed, refused = self.pushed, ""
        if pushed.refused:
            reason = "something on the outbox's table refuses to have changed"
            refused = f" Changes that {reason}: {pushed.refused}; their last_error says more."
        if not (pushed.done or pushed.failed or pushed.held):
            return refused
        held = f", {pushed.held} held" if pushed.held else ""
        return f" Pushed: {pushed.done} changes done, {pushed.failed} failed{held}.{refused}"


async def _once(settings: Settings, url: str, *, accept_enterprises: bool) -> Outcome:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    opened = app.open_connection(settings, url, stop, accept_enterprises=accept_enterprises)
    async with opened as connection:
        jobs = app.make_jobs(connection, settings)
        discovered = await jobs.discover()
        with pull_progress(connection.client) as on_progress:
            pulled = await jobs.pull_turn(on_progress=on_progress) if discovered else None
        pushed = await _push(connection, jobs.outbox)
        if pulled and pulled.caught_up:
            note = partial(heartbeat.note_caught_up, name=connection.name, caught_up=pulled.caught_up)
            await in_transaction(connection.engine, note)
        return Outcome(discovered, pulled, pushed, _each_once([*jobs.health.errors, *pushed.errors.values()]))


async def _push(connection: Connection, jobs: OutboxJobs) -> PushReport:
    waiting = sum(await in_transaction(connection.engine, waiting_by_lane))
    with call_progress("Pushing", "changes", connection.client) as show:
        # What follows others, and what others queue meanwhile, comes to it.
        return await followed(jobs.push_all(), lambda: show(jobs.ended, max(waiting, jobs.ended)))


def _each_once(errors: list[VoucherSyncError]) -> list[VoucherSyncError]:
    """Of errors that only differ in their Request-Id, as where each job meets the same refused token, the first."""
    shown: dict[str, VoucherSyncError] = {}
    for error in errors:
        request = f" [Request-Id {error.request_id}]" if isinstance(error, ApiError) else ""
        shown.setdefault(str(error).removesuffix(request), error)
    return [*shown.values()]


def _counts(report: DiscoverReport | PullReport | None) -> dict[str, int] | None:
    if report is None:
        return None
    counts = {name: value for name, value in asdict(report).items() if isinstance(value, int | bool)}
    return {**counts, "refused": len(report.refused)}
