"""`voucher-sync outbox import`."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedReader, RawIOBase, TextIOWrapper
from typing import BinaryIO, cast
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.cli.outbox_work import OnProgress, note_doubtful, note_silence, plural, progress_bar, with_database
from sync.db.outbox_queue import doubtful_vouchers, user_transaction
from sync.db.outbox_staging import (
    analyze_staged,
    create_staging,
    first_refused,
    forget_repeated,
    queue_staged,
    refuse_bad,
    staged_vouchers,
    staging,
)
from sync.model.code_files import BadLine, CodeLine, Layout, numbered_lines, read_lines, skip_to_layout
from sync.model.errors import VoucherSyncError

MAX_LISTED = 100
LINES_PER_REPORT = 5_000


def import_codes(
    *, file: BinaryIO, voucher_id: UUID | None, skip_bad: bool, as_is: bool, priority: int, dry_run: bool
) -> None:
    """Queue every code of `file`, or nothing, and tell what came of it."""

    async def work(engine: AsyncEngine) -> Report:
        with progress_bar("lines") as on_progress:
            async with user_transaction(engine) as tx:
                report = Report()
                await _stage(tx, read_lines(*_opened(file), voucher_id, as_is=as_is), report, on_progress)
                await _check(tx, report)
                if not dry_run and (skip_bad or not report.bad_count):
                    async for reached, queued in queue_staged(tx, report.last_line, priority):
                        report.queued += queued
                        on_progress("Queueing", reached, report.last_line)
        if report.queued:
            await note_silence(engine)
        return report

    _tell(with_database(work), skip_bad=skip_bad, dry_run=dry_run)


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
    doubtful: dict[UUID, str] = field(default_factory=dict)
    queued: int = 0


def _opened(file: BinaryIO) -> tuple[Iterator[tuple[int, str | None]], Layout]:
    """The lines with codes, and the file's layout; in UTF-8, or in UTF-16, in which Excel saves "Unicode text"."""
    buffered = file if isinstance(file, BufferedReader) else BufferedReader(cast("RawIOBase", file))
    is_utf16 = buffered.peek(2)[:2] in {b"\xff\xfe", b"\xfe\xff"}
    encoding, errors = ("utf-16", "replace") if is_utf16 else ("utf-8-sig", "surrogateescape")
    layout, lines = skip_to_layout(numbered_lines(TextIOWrapper(buffered, encoding=encoding, errors=errors)))
    return lines, layout


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


async def _check(tx: AsyncConnection, report: Report) -> None:
    """Check the lines against each other and the database."""
    report.repeated = await forget_repeated(tx)
    refused = await refuse_bad(tx)
    report.good -= report.repeated + refused
    report.bad_count += refused
    report.bad = sorted([*report.bad, *await first_refused(tx, MAX_LISTED)])[:MAX_LISTED]
    report.doubtful = await doubtful_vouchers(tx, await staged_vouchers(tx, MAX_LISTED))


def _tell(report: Report, *, skip_bad: bool, dry_run: bool) -> None:
    for line in report.bad:
        click.echo(f"line {line.line}: {line.reason}", err=True)
    if report.bad_count > len(report.bad):
        click.echo(f"... and {plural(report.bad_count - len(report.bad), 'more bad line')}", err=True)
    if report.repeated:
        click.echo(f"{plural(report.repeated, 'line')} queued before, under the same idempotency keys.")
    if report.bad_count and not (skip_bad and report.good):
        advice = "" if skip_bad or not report.good else f"; --skip-bad would queue the other {report.good:,}"
        raise VoucherSyncError(f"nothing is queued: {plural(report.bad_count, 'bad line')}{advice}")
    note_doubtful(report.doubtful)
    skipped = f"; {plural(report.bad_count, 'bad line')} skipped" if report.bad_count else ""
    if dry_run:
        click.echo(f"{plural(report.good, 'code')} would be queued{skipped}. Nothing is queued: this is a dry run.")
    else:
        click.echo(f"{plural(report.queued, 'code')} queued{skipped}.")
