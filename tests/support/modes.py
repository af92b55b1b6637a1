"""Modes of files, set without any program: a machine may have none but git, make and Python on its PATH."""

import stat
from pathlib import Path


def open_to_all(*tops: Path) -> None:
    """What `chmod -R a+rX` does: all may read, and run or enter what anybody may."""
    for top in tops:
        for path in (top, *top.rglob("*")):
            if path.is_symlink():
                continue
            mode = stat.S_IMODE(path.stat().st_mode)
            may_run = path.is_dir() or mode & 0o111
            path.chmod(mode | 0o444 | (0o111 if may_run else 0))
