"""Progress on a terminal: what is done of what there is, codes and calls with their rates, and the time left."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from sync.cli.terminal import progress
from sync.mews.client import Client
from sync.mirror.pull_report import PullReport

LOOK_EVERY_S = 0.2

Result = TypeVar("Result")


class Show(Protocol):
    """Shows how much is done of how much, and how many codes that were; `of` is None where it is not known."""

    def __call__(self, done: int, of: int | None, codes: int | None = None) -> None:
        """Show it."""


def _whole() -> Column:
    """One that is not broken: on a narrow terminal the bar is shorter."""
    return Column(no_wrap=True)


class PerSecond(ProgressColumn):
    """How many of something so far, and how many a second; empty where it is not counted."""

    def __init__(self, name: str) -> None:
        self._name = name
        super().__init__(_whole())

    def render(self, task: Task) -> Text:
        number: int | None = task.fields[self._name]
        if number is None:
            return Text()
        rate = number / task.elapsed if task.elapsed else 0.0
        a_second = f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
        return Text(f"{number:,} {self._name}, {a_second}/s", style="progress.data.speed")


@contextmanager
def call_progress(doing: str, unit: str, client: Client) -> Iterator[Show]:
    """A bar on a terminal for work with the API, whose calls are the client's from here on."""
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(table_column=_whole()), TextColumn(unit))
    before = client.traffic.calls.total()
    with progress(*columns, PerSecond("codes"), PerSecond("calls"), TimeRemainingColumn(table_column=_whole())) as bar:
        task = bar.add_task(doing, total=None, codes=None, calls=0)

        def show(done: int, of: int | None, codes: int | None = None) -> None:
            calls = client.traffic.calls.total() - before
            bar.update(task, total=of, completed=done, codes=codes, calls=calls)

        yield show


@contextmanager
def pull_progress(client: Client) -> Iterator[Callable[[PullReport], None]]:
    """A bar on a terminal for a pull; yields what to call with each new state."""
    with call_progress("Pulling", "windows", client) as show:
        yield lambda report: show(report.windows_done, report.windows_planned, report.codes)


async def followed(work: Awaitable[Result], look: Callable[[], None]) -> Result:
    """What `work` returns; `look` is called every moment meanwhile, and once it is done."""

    async def follow() -> None:
        while True:
            look()
            await asyncio.sleep(LOOK_EVERY_S)

    following = asyncio.create_task(follow())
    try:
        return await work
    finally:
        following.cancel()
        look()
