"""A new file of codes: only its owner can read it, and it is gone again if what it goes with fails.

It stays where that may have been done: nobody else would know which codes they are.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from sync.core.errors import CommitUnknown, VoucherSyncError


@contextmanager
def new_file(path: Path | None) -> Iterator[TextIO | None]:
    """The file; None without a path. A wrong call if it exists, `VoucherSyncError` if it cannot be written."""
    if path is None:
        yield None
        return
    if path.exists():
        raise click.UsageError(f"{path} exists: name a new file")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            try:
                yield file
            except CommitUnknown as error:
                raise CommitUnknown(f"{error}; {path} has the codes that are there if it was") from None
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise VoucherSyncError(f"{path} cannot be written: {error.strerror}; nothing is done") from error


def save(file: TextIO) -> None:
    """Have it on the disk: a full one must be noticed before anything counts on it."""
    file.flush()
    os.fsync(file.fileno())
