"""`voucher-sync outbox generate`."""

import csv
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.cli.database import with_database
from sync.cli.outbox.forecast import load_forecast, tell_forecast
from sync.cli.outbox.new_file import NewFile, new_file
from sync.cli.outbox.work import (
    OnProgress,
    in_one_transaction,
    note_doubtful,
    note_silence,
    progress_bar,
)
from sync.cli.shapes import Generated
from sync.cli.terminal import echo_json
from sync.core.errors import VoucherSyncError
from sync.core.plurals import plural
from sync.mirror.voucher_names import find_voucher
from sync.outbox.bulk.files import CodeLine
from sync.outbox.bulk.forecast import Forecast
from sync.outbox.bulk.patterns import CodePattern, draw
from sync.outbox.bulk.staging import analyze_staged, create_staging, drop_taken, queue_staged, staged_values, staging
from sync.outbox.enqueue import doubtful_vouchers
from sync.postgres.engine import transaction
from sync.settings import Settings, load_settings

SAMPLES = 3
MAX_ROUNDS = 100
"""Of drawing in place of codes that exist already; a round without any is the last one."""
CODES_PER_REPORT = 5_000


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made."""

    voucher: str
    pattern: CodePattern
    count: int
    validity_start_utc: datetime | None
    validity_end_utc: datetime | None
    not_before: datetime | None
    note: str | None
    priority: int

    @property
    def validity(self) -> tuple[datetime | None, datetime | None]:
        """The time in which they can be used."""
        return self.validity_start_utc, self.validity_end_utc

    def line(self, number: int, code: str, voucher_id: UUID) -> CodeLine:
        """One of them."""
        return CodeLine(number, voucher_id, code, *self.validity, self.not_before, self.note)


def generate(
    *, pattern: str, dry_run: bool, is_forecast: bool, output: Path | None, as_json: bool, **asked: Any
) -> None:
    """Make codes that nobody can guess, queue them all or none, and tell."""
    order = Order(pattern=CodePattern(pattern), **asked)
    if refusal := order.pattern.refusal(order.count):
        raise click.UsageError(f"the pattern {refusal}")
    start, end = order.validity
    if start and end and end < start:
        raise click.UsageError("--to lies before --from")

    settings = load_settings()
    if is_forecast:
        told = with_database(settings, partial(_forecast, settings, order))
        echo_json(Generated(0, None, told)) if as_json else tell_forecast(told)
        return
    with new_file(None if dry_run else output) as file:
        note_doubtful(with_database(settings, partial(_make, settings, order, dry_run=dry_run, file=file)))
    if as_json:
        made = order.count * (not dry_run)
        echo_json(Generated(made, str(output) if output and made else None, None))
    else:
        _tell(order, output, dry_run=dry_run)


async def _forecast(settings: Settings, order: Order, engine: AsyncEngine) -> Forecast:
    async with transaction(engine) as tx:
        await find_voucher(tx, order.voucher)
        return await load_forecast(tx, settings, [order.count])


async def _make(
    settings: Settings, order: Order, engine: AsyncEngine, *, dry_run: bool, file: NewFile | None
) -> list[str]:
    with progress_bar("codes") as on_progress:

        async def make(tx: AsyncConnection) -> list[str]:
            voucher_id = await find_voucher(tx, order.voucher)
            await _stage(tx, order, voucher_id, on_progress)
            if not dry_run:
                async for reached, _queued in queue_staged(tx, order.count, order.priority):
                    on_progress("Queueing", reached, order.count)
            if file:
                await _write(tx, file, order, voucher_id)
            return await doubtful_vouchers(tx, [voucher_id])

        doubtful = await in_one_transaction(engine, make)
    if file:
        file.keep()
    if not dry_run:
        await note_silence(engine, settings.sync_lease_s)
    return doubtful


async def _stage(tx: AsyncConnection, order: Order, voucher_id: UUID, on_progress: OnProgress) -> None:
    """Draw codes into the transaction's table, and others in place of those that exist already, until all are new."""
    await create_staging(tx)
    numbers = list(range(1, order.count + 1))
    drawn: set[int] = set()
    for _round in range(MAX_ROUNDS):
        # Where most combinations are taken, this ends before it has tried them all.
        if len(drawn) + len(numbers) > order.pattern.combinations // 2:
            break
        codes = map(order.pattern.code, draw(order.pattern.combinations, len(numbers), drawn))
        async with staging(tx) as copy:
            for done, (number, code) in enumerate(zip(numbers, codes, strict=True), 1):
                await copy.write_row(order.line(number, code, voucher_id))
                if done % CODES_PER_REPORT == 0:
                    on_progress("Making", done, len(numbers))
        await analyze_staged(tx)
        if not (numbers := await drop_taken(tx)):
            return
    raise VoucherSyncError("too many of the pattern's combinations exist as codes already: put one more ? into it")


async def _write(tx: AsyncConnection, file: NewFile, order: Order, voucher_id: UUID) -> None:
    file.empty()
    writer = csv.writer(file.text)
    writer.writerow(("value", "voucher_id", "validity_start_utc", "validity_end_utc"))
    ends = [instant.isoformat() if instant else "" for instant in order.validity]
    async for value in staged_values(tx):
        writer.writerow((value, voucher_id, *ends))
    file.save()  # before the codes are queued for good


def _tell(order: Order, output: Path | None, *, dry_run: bool) -> None:
    if dry_run:
        samples = ", ".join(map(order.pattern.code, draw(order.pattern.combinations, SAMPLES, set())))
        click.echo(
            f"{plural(order.count, 'code')} would be queued, such as {samples}. Nothing is queued: this is a dry run."
        )
        return
    where = f", and written into {output}" if output else ""
    click.echo(f"{plural(order.count, 'code')} queued{where}.")
