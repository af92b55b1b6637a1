"""Progress on a terminal: windows done of planned, codes, their rate, and the time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from sync.flows.pull import PullReport


class _CodesColumn(ProgressColumn):
    """Codes read so far, and how many a second."""

    def render(self, task: Task) -> Text:
        codes: int = task.fields["codes"]
        rate = codes / task.elapsed if task.elapsed else 0.0
        return Text(f"{codes:,} codes, {rate:,.0f}/s", style="progress.data.speed")


@contextmanager
def pull_progress() -> Iterator[Callable[[PullReport], None]]:
    """A bar on stderr, which is left out where that is no terminal; yields what to call with each new state."""
    console = Console(stderr=True)
    columns = (
        TextColumn("Pulling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("windows,"),
        _CodesColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("pull", total=None, codes=0)

        def show(report: PullReport) -> None:
            progress.update(task, total=report.windows_planned, completed=report.windows_done, codes=report.codes)

        yield show
