"""What is shown on a terminal alone, and to nobody who reads a file or a pipe."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table

from sync.core.printable import printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def is_shown_to_somebody() -> bool:
    """Whether the output goes to a terminal. Rich also says so where FORCE_COLOR is set, as in many a CI."""
    return sys.stdout.isatty()


def progress(*columns: ProgressColumn) -> Progress:
    """A bar on stderr, which is left out where that is no terminal: a log would hold it again for each step."""
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())


WIDE = frozenset({"voucher", "note", "value", "reason", "why", "name", "hotel", "service", "changed_by", "owner"})
"""Columns that wrap where a terminal is narrow: nobody knows how long what people and machines are called."""


LEAST_WIDTH = 80
"""In less, ids are cut off and names left out."""


def plain_table(*columns: str) -> Table:
    """A table that fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        table.add_column(name.replace("_", " "), no_wrap=name not in WIDE, overflow="fold")
    return table


def print_table(table: Table) -> None:
    """Print a table; a terminal that is narrower than a table has to be wraps its lines, and lacks nothing of them."""
    Console(width=max(Console().width, LEAST_WIDTH)).print(table)


def echo_json(shape: "DataclassInstance") -> None:
    """Print a dataclass as JSON."""
    click.echo(json.dumps(asdict(shape), default=for_json))


def for_json(value: object) -> str:
    """What JSON has no form for: instants in ISO 8601, and ids."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def as_cell(value: object) -> str:
    """For a cell of a table or a line: notes, names and the API's messages may hold what is not printable."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return printable(str(value))
