"""`voucher-sync outbox import`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BufferedReader, RawIOBase, TextIOWrapper
from typing import Any, BinaryIO, cast

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.cli.database import with_database
from sync.cli.outbox.forecast import load_forecast, tell_forecast
from sync.cli.outbox.work import (
    OnProgress,
    in_one_transaction,
    note_doubtful,
    note_silence,
    progress_bar,
)
from sync.cli.shapes import BadCode, Imported
from sync.cli.terminal import echo_json
from sync.connection.budget import may_write
from sync.core.encodings import encoding_of
from sync.core.errors import SettingsError, VoucherSyncError
from sync.core.plurals import plural
from sync.fleet.registry import load_present
from sync.mews.client import Client
from sync.mews.client_settings import Credentials
from sync.mirror.voucher_names import find_voucher
from sync.outbox.bulk.campaign import staged_by_hotel
from sync.outbox.bulk.files import BadLine, CodeLine, Layout, numbered_lines, read_lines, skip_to_layout
from sync.outbox.bulk.forecast import Forecast
from sync.outbox.bulk.preflight import refuse_taken
from sync.outbox.bulk.staging import (
    analyze_staged,
    create_staging,
    first_refused,
    forget_repeated,
    queue_staged,
    refuse_bad,
    staged_vouchers,
    staging,
)
from sync.outbox.enqueue import doubtful_vouchers, user_transaction
from sync.postgres.engine import in_transaction
from sync.service import app
from sync.service.opened import choose
from sync.settings import Settings, load_settings
from sync.signals import Signal

MAX_LISTED = 100
LINES_PER_REPORT = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the command was asked for, beside the file. `is_forecast`: nothing is queued, as with `dry_run`."""

    voucher: str | None
    unique: str | None
    connection: str | None
    skip_bad: bool
    as_is: bool
    priority: int
    dry_run: bool
    is_forecast: bool
    as_json: bool


def import_codes(*, file: BinaryIO, **options: Any) -> None:
    """Queue every code of `file`, or nothing, and tell what came of it. `options` are those of `Asked`."""
    settings, source, asked = load_settings(), _Source(file), Asked(**options)

    async def work(engine: AsyncEngine) -> Report:
        async with _client(settings, engine, asked) as client:
            report = await _queue_all(settings, engine, client, source, asked)
        if report.queued:
            await note_silence(engine, settings.sync_lease_s)
        return report

    report = with_database(settings, work)
    if asked.as_json:
        _tell_json(report, skip_bad=asked.skip_bad)
    else:
        _tell(report, skip_bad=asked.skip_bad, dry_run=asked.dry_run)


async def _queue_all(
    settings: Settings, engine: AsyncEngine, client: Client | None, source: "_Source", asked: Asked
) -> "Report":
    with progress_bar("lines", client) as on_progress:

        async def queue(tx: AsyncConnection) -> Report:
            report, voucher_id = Report(), await find_voucher(tx, asked.voucher)
            await _stage(tx, read_lines(*source.read(), voucher_id, as_is=asked.as_is), report, on_progress)
            await _check(tx, report)
            if client:
                await _check_everywhere(tx, client, report, on_progress)
            if asked.is_forecast:
                report.forecast = await load_forecast(tx, settings, await staged_by_hotel(tx))
            elif not asked.dry_run and (asked.skip_bad or not report.bad_count):
                async for reached, queued in queue_staged(tx, report.last_line, asked.priority):
                    report.queued += queued
                    on_progress("Queueing", reached, report.last_line)
            return report

        return await in_one_transaction(engine, queue)


@dataclass(slots=True)
class Report:
    """What was found in the file, and done with it."""

    last_line: int = 0
    good: int = 0
    repeated: int = 0
    """Lines that were queued before, under their idempotency keys."""
    bad_count: int = 0
    bad: list[BadLine] = field(default_factory=list)
    """The first of them."""
    doubtful: list[str] = field(default_factory=list)
    queued: int = 0
    forecast: Forecast | None = None


class _Source:
    """A file of codes, which is read again where its transaction is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file if isinstance(file, BufferedReader) else BufferedReader(cast("RawIOBase", file))
        self._start = self._file.tell() if self._file.seekable() else None
        self._text: TextIOWrapper | None = None

    def read(self) -> tuple[Iterator[tuple[int, str | None]], Layout]:
        """The lines with codes, and the file's layout."""
        if self._text is not None:
            self._rewind(self._text)
        encoding = encoding_of(self._file.peek(2))
        errors = "replace" if encoding == "utf-16" else "surrogateescape"
        self._text = TextIOWrapper(self._file, encoding=encoding, errors=errors)
        layout, lines = skip_to_layout(numbered_lines(self._text))
        return lines, layout

    def _rewind(self, text: TextIOWrapper) -> None:
        if self._start is None:
            raise VoucherSyncError(
                "nothing is queued: the database gave way to somebody else, and a pipe cannot be read again; run this "
                "again, or give it a file"
            )
        text.detach()  # else it would close the file with itself
        self._file.seek(self._start)


async def _stage(
    tx: AsyncConnection, lines: Iterator[CodeLine | BadLine], report: Report, on_progress: OnProgress
) -> None:
    """Read the file into the transaction's table, except for the bad lines."""
    await create_staging(tx)
    async with staging(tx) as copy:
        for line in lines:
            report.last_line = line.line
            if isinstance(line, BadLine):
                report.bad_count += 1
                if len(report.bad) < MAX_LISTED:
                    report.bad.append(line)
            else:
                report.good += 1
                await copy.write_row(line)
            if (report.good + report.bad_count) % LINES_PER_REPORT == 0:
                on_progress("Reading", report.last_line, None)
                await asyncio.sleep(0)  # lets an interruption through
    if not report.last_line:
        raise VoucherSyncError("the file holds no codes: give it a line for each, below the names of the columns")
    await analyze_staged(tx)


@asynccontextmanager
async def _client(settings: Settings, engine: AsyncEngine, asked: Asked) -> AsyncIterator[Client | None]:
    """The API's client, where it is to be asked. `SettingsError` if a token is missing.

    It shares the budget with the daemon, unless this user of the database sees nothing of the daemon's.
    """
    if asked.unique is None:
        yield None
        return
    tokens = await _tokens(settings, engine, asked.connection)
    async with user_transaction(engine) as tx:
        is_shared = await may_write(tx)
    ledger = app.new_ledger(settings, engine, tokens) if is_shared else None
    client = app.make_client(settings, Signal(), tokens, ledger)
    try:
        yield client
    finally:
        await client.aclose()


async def _tokens(settings: Settings, engine: AsyncEngine, name: str | None) -> Credentials:
    """Whom to ask, and with which tokens: those of the environment, unless it has none or a connection is named."""
    if name is None and (settings.mews_access_token is not None or not settings.secret_keys):
        return app.credentials(settings)
    chosen = choose(settings, await in_transaction(engine, load_present), name)
    if len(chosen) > 1:
        raise SettingsError("--unique asks with the token of one connection: name it with --connection")
    return app.open_stored(settings, chosen[0])


async def _check(tx: AsyncConnection, report: Report) -> None:
    """Check the lines against each other and the database."""
    report.repeated = await forget_repeated(tx)
    report.good -= report.repeated
    await _note_refused(tx, report, await refuse_bad(tx))
    report.doubtful = await doubtful_vouchers(tx, await staged_vouchers(tx, MAX_LISTED))


async def _check_everywhere(tx: AsyncConnection, client: Client, report: Report, on_progress: OnProgress) -> None:
    """Check the lines against all codes that the token sees."""
    refused = await refuse_taken(tx, client, partial(on_progress, "Asking the API"))
    await _note_refused(tx, report, refused)


async def _note_refused(tx: AsyncConnection, report: Report, refused: int) -> None:
    report.good -= refused
    report.bad_count += refused
    report.bad = sorted({*report.bad, *await first_refused(tx, MAX_LISTED)})[:MAX_LISTED]


def _tell_json(report: Report, *, skip_bad: bool) -> None:
    bad = [BadCode(line.line, line.reason) for line in report.bad]
    echo_json(Imported(report.queued, report.good, report.repeated, report.bad_count, bad, report.forecast))
    note_doubtful(report.doubtful)
    _refuse_bad(report, skip_bad=skip_bad)


def _refuse_bad(report: Report, *, skip_bad: bool) -> None:
    if report.bad_count and not (skip_bad and report.good):
        advice = "" if skip_bad or not report.good else f"; --skip-bad would queue the other {report.good:,}"
        raise VoucherSyncError(f"nothing is queued: {plural(report.bad_count, 'bad line')}{advice}")


def _tell(report: Report, *, skip_bad: bool, dry_run: bool) -> None:
    for line in report.bad:
        click.echo(f"line {line.line}: {line.reason}", err=True)
    if report.bad_count > len(report.bad):
        click.echo(f"... and {plural(report.bad_count - len(report.bad), 'more bad line')}", err=True)
    if report.repeated:
        click.echo(f"{plural(report.repeated, 'line')} queued before, under the same idempotency keys.")
    _refuse_bad(report, skip_bad=skip_bad)
    note_doubtful(report.doubtful)
    if report.forecast:
        tell_forecast(report.forecast)
        return
    skipped = f"; {plural(report.bad_count, 'bad line')} skipped" if report.bad_count else ""
    if dry_run:
        click.echo(f"{plural(report.good, 'code')} would be queued{skipped}. Nothing is queued: this is a dry run.")
    else:
        click.echo(f"{plural(report.queued, 'code')} queued{skipped}.")
