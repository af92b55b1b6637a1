"""`voucher-sync outbox export`."""

import csv
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli import streams
from sync.cli.database import with_database
from sync.cli.outbox.new_file import new_file
from sync.cli.outbox.wanted import find_wanted
from sync.cli.terminal import is_shown_to_somebody
from sync.core.plurals import plural
from sync.core.printable import printable
from sync.outbox.bulk.spreadsheets import as_text
from sync.outbox.enqueue import user_transaction
from sync.outbox.listing import EXPORTED, stream
from sync.settings import load_settings

UNREAD = 141
"""Exit code where whoever read it has gone before its end, as if SIGPIPE had ended it: not all rows are out."""


def export(*, output: Path | None, as_is: bool, **asked: Any) -> None:
    """Write rows of the outbox as CSV, their codes and ids too, into a new file or to the standard output."""
    marked = 0
    is_shown = output is None and is_shown_to_somebody()
    if output is None and streams.is_closed():
        raise click.UsageError("the standard output is closed, so no row would get anywhere: name a file with --output")

    def field(value: object) -> object:
        nonlocal marked
        if isinstance(value, datetime):
            return value.isoformat()
        if not isinstance(value, str):
            return value
        cell = value if as_is else as_text(value)
        marked += cell != value
        return printable(cell) if is_shown else cell

    async def work(engine: AsyncEngine, file: TextIO) -> int:
        count, writer = 0, csv.writer(file)
        async with user_transaction(engine) as tx:
            wanted = await find_wanted(tx, asked)
            writer.writerow(EXPORTED)
            async for row in stream(tx, wanted):
                writer.writerow(map(field, row))
                count += 1
                if file is sys.stdout and not streams.is_read():
                    raise click.exceptions.Exit(UNREAD)
        return count

    with new_file(output) as file:
        count = with_database(load_settings(), lambda engine: work(engine, file.text if file else sys.stdout))
        if file:
            file.save()
            file.keep()
    click.echo(f"{plural(count, 'row')} exported.", err=True)
    if marked:
        cells = f"{plural(marked, 'cell')} that a spreadsheet would run as a formula"
        click.echo(f"Note: {cells}, marked as text with an ' in front; --as-is leaves that out", err=True)
