"""`voucher-sync outbox import`."""

import asyncio
from dataclasses import dataclass, field
from io import TextIOWrapper
from itertools import chain
from typing import BinaryIO
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
from sync.model.code_files import BadLine, numbered_lines, read_layout, read_lines
from sync.model.errors import VoucherSyncError

MAX_LISTED = 100
LINES_PER_REPORT = 5_000


def import_codes(*, file: BinaryIO, voucher_id: UUID | None, skip_bad: bool, priority: int, dry_run: bool) -> None:
    """Queue every code of `file`, or nothing, and tell what came of it."""

    async def work(engine: AsyncEngine) -> Report:
        with progress_bar("lines") as on_progress:
            async with user_transaction(engine) as tx:
                report = Report()
                await _stage(tx, file, voucher_id, report, on_progress)
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


async def _stage(
    tx: AsyncConnection, file: BinaryIO, voucher_id: UUID | None, report: Report, on_progress: OnProgress
) -> None:
    """Read the file into the transaction's table, except for the bad lines."""
    text = TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape")
    lines = numbered_lines(text)
    if (first := next(lines, None)) is None:
        raise VoucherSyncError("the file is empty: give it a line for each code")
    layout = read_layout(first[1])
    await create_staging(tx)
    async with staging(tx) as copy:
        for line in read_lines(lines if layout.has_header else chain([first], lines), layout, voucher_id):
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
