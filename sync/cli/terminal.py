"""What is shown on a terminal alone, and to nobody who reads a file or a pipe."""

import sys

from rich.console import Console
from rich.progress import Progress, ProgressColumn


def is_shown_to_somebody() -> bool:
    """Whether the output goes to a terminal. Rich also says so where FORCE_COLOR is set, as in many a CI."""
    return sys.stdout.isatty()


def progress(*columns: ProgressColumn) -> Progress:
    """A bar on stderr, which is left out where that is no terminal: a log would hold it again for each step."""
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
