"""Progress on a terminal: windows done of planned, codes, their rate, and the time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from sync.cli.terminal import progress
from sync.mirror.pull_report import PullReport


class _CodesColumn(ProgressColumn):
    """Codes read so far, and how many a second."""

    def render(self, task: Task) -> Text:
        codes: int = task.fields["codes"]
        rate = codes / task.elapsed if task.elapsed else 0.0
        return Text(f"{codes:,} codes, {rate:,.0f}/s", style="progress.data.speed")


@contextmanager
def pull_progress() -> Iterator[Callable[[PullReport], None]]:
    """A bar on a terminal; yields what to call with each new state."""
    columns = (
        TextColumn("Pulling"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("windows,"),
        _CodesColumn(),
        TimeRemainingColumn(),
    )
    with progress(*columns) as bar:
        task = bar.add_task("pull", total=None, codes=0)

        def show(report: PullReport) -> None:
            bar.update(task, total=report.windows_planned, completed=report.windows_done, codes=report.codes)

        yield show
