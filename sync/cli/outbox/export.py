"""`voucher-sync outbox export`."""

import csv
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.outbox.new_file import new_file, save
from sync.cli.outbox.wanted import find_wanted
from sync.cli.outbox.work import plural, with_database
from sync.outbox.listing import EXPORTED, stream
from sync.postgres.engine import transaction


def export(*, output: Path | None, **asked: Any) -> None:
    """Write rows of the outbox as CSV, their codes and ids too, into a new file or to the standard output."""

    async def work(engine: AsyncEngine, file: TextIO) -> int:
        count, writer = 0, csv.writer(file)
        async with transaction(engine) as tx:
            wanted = await find_wanted(tx, asked)
            writer.writerow(EXPORTED)
            async for row in stream(tx, wanted):
                writer.writerow(map(_field, row))
                count += 1
        return count

    with new_file(output) as file:
        count = with_database(lambda engine: work(engine, file or sys.stdout))
        if file:
            save(file)
    click.echo(f"{plural(count, 'row')} exported.", err=True)


def _field(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
