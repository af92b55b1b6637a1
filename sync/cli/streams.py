"""The standard streams as they come: closed, full, or in an encoding that cannot hold what is to be told."""

import os
import re
import sys

NAMES = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
MEASURE = re.compile("[1-9][0-9]{0,3}")
"""What a terminal may be wide or high."""


def prepare() -> None:
    """Make all three usable.

    The number of a stream that came closed would be the next file's or socket's: what is printed would go to the
    database. What an encoding cannot hold is shown by its number (`\\u2713`), where Python would end in a traceback.
    """
    for name, mode in NAMES:
        stream = getattr(sys, name)
        if stream is None:
            # Lives as long as the process. The lowest free number is the stream's own.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - open to the end
        elif mode == "w":
            stream.reconfigure(errors="backslashreplace")
    for name in ("COLUMNS", "LINES"):
        # Left by a terminal that knew none. Of 0 columns rich would print nothing, and `²` is a digit to it.
        if not MEASURE.fullmatch(os.environ.get(name, "80")):
            del os.environ[name]


def are_through() -> bool:
    """Whether all that was printed has got out; if not, it is forgotten, or Python would try once more and complain."""
    is_through = True
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            is_through = False
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return is_through
