"""What the commands of `voucher-sync outbox` share."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.database import open_database
from sync.db.engine import make_engine
from sync.model.instants import parse_instant
from sync.settings import load_settings

Result = TypeVar("Result")

OnProgress = Callable[[str, int, int | None], None]
"""Takes what is being done, how much of it is done, and of how much, if that is known."""


class Instant(click.ParamType[datetime]):
    """An instant in ISO 8601; without a zone it is UTC."""

    name = "UTC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Click's own way to ask for it."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_instant(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Words(click.ParamType[str]):
    """A text that the database can hold."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Click's own way to ask for it."""
        if re.search("[\ud800-\udfff]", value):
            self.fail("is not a text in UTF-8", param, ctx)
        return str(value)


INSTANT, WORDS = Instant(), Words()


def option_voucher(words: str, *, required: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The voucher of a code."""
    return click.option("--voucher", "voucher_id", metavar="ID", type=click.UUID, required=required, help=words)


option_from = click.option("--from", "validity_start_utc", type=INSTANT, help="When the code can be used first.")
option_to = click.option("--to", "validity_end_utc", type=INSTANT, help="When it can no longer be used.")
option_not_before = click.option("--not-before", type=INSTANT, help="Send it at that instant, not earlier.")
option_note = click.option("--note", type=WORDS, help="Anything, for people; it is not sent.")
option_dry_run = click.option(
    "--dry-run", is_flag=True, help="Check everything, say what would be done, queue nothing."
)
option_json = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")


def with_database(work: Callable[[AsyncEngine], Awaitable[Result]]) -> Result:
    """Does `work` with the database of the settings."""
    with open_database(load_settings()) as url:
        return asyncio.run(_with_engine(url, work))


async def _with_engine(url: str, work: Callable[[AsyncEngine], Awaitable[Result]]) -> Result:
    engine = make_engine(url)
    try:
        return await work(engine)
    finally:
        await engine.dispose()


@contextmanager
def progress_bar(unit: str) -> Iterator[OnProgress]:
    """A bar on stderr, which is left out where that is no terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def show(doing: str, done: int, of: int | None) -> None:
            if doing not in tasks:
                tasks[doing] = progress.add_task(doing, total=of)
            progress.update(tasks[doing], completed=done, total=of)

        yield show


def plural(number: int, noun: str) -> str:
    """So many of them."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def note_doubtful(vouchers: dict[UUID, str]) -> None:
    """Warns of vouchers for which the changes will probably fail."""
    for voucher_id, why in vouchers.items():
        click.echo(f"Note: voucher {voucher_id} {why}", err=True)
