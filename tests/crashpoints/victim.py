"""`voucher-sync` in forks of a loaded process, each with its points told, which dies at one of them.

Before a command's own words stand the file for the points that it came to, and the name of the last one.
"""

import sys
from pathlib import Path

from sync.cli import main
from tests.crashpoints.points import die_at, trace
from tests.support.loaded import serve


def run() -> None:
    """Runs the command that `sys.argv` names."""
    file, last = sys.argv[1:3]
    del sys.argv[1:3]
    trace(die_at(last, Path(file)))
    main()


if __name__ == "__main__":
    serve(run)
