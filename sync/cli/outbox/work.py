"""What the work of the `voucher-sync outbox` commands shares."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.cli.progress import PerSecond
from sync.cli.terminal import progress
from sync.core.errors import DatabaseError
from sync.mews.client import Client
from sync.outbox.enqueue import user_transaction
from sync.postgres.engine import in_transaction, transaction
from sync.service.states import is_daemon_heard

Result = TypeVar("Result")

AGAIN_FOR_S = 600.0
"""A long file takes a minute by itself."""

OnProgress = Callable[[str, int, int | None], None]
"""Takes what is being done, how much of it is done, and of how much, if that is known."""


async def in_one_transaction(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
    """What `work` returns, which may queue a million rows: it is begun anew where the database gave way to others."""
    return await in_transaction(engine, work, user_transaction, AGAIN_FOR_S)


async def note_silence(engine: AsyncEngine, lease_s: float) -> None:
    """Says so where no daemon is at work that would send what was queued."""
    heard = True
    with suppress(DatabaseError):  # a writer sees nothing of the daemon's
        async with transaction(engine) as tx:
            heard = await is_daemon_heard(tx, lease_s)
    if not heard:
        click.echo(
            "Note: no daemon is at work on this database, so nothing is sent until `voucher-sync run` or "
            "`voucher-sync once` is started",
            err=True,
        )


@contextmanager
def progress_bar(unit: str, client: Client | None = None) -> Iterator[OnProgress]:
    """A bar on a terminal for each thing that is done, with the calls of `client`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        PerSecond("calls"),
        TimeRemainingColumn(),
    )
    with progress(*columns) as bar:
        tasks: dict[str, Any] = {}

        def show(doing: str, done: int, of: int | None) -> None:
            if doing not in tasks:
                tasks[doing] = bar.add_task(doing, total=of, calls=None)
            calls = client.traffic.calls.total() if client else None
            bar.update(tasks[doing], completed=done, total=of, calls=calls or None)

        yield show


def note_doubtful(doubts: Iterable[str]) -> None:
    """Warns of vouchers for which the changes will probably fail."""
    for one in doubts:
        click.echo(f"Note: {one}", err=True)
