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
from sync.outbox.enqueue import UNKNOWN


class NewFile:
    """A file that is being written, as `text`. What fails before `keep` undoes it; what interrupts, before `save`."""

    def __init__(self, text: TextIO) -> None:
        self.text = text
        self.is_saved = False
        self.is_kept = False

    def empty(self) -> None:
        """Begin anew: an earlier try, which was undone, may have written something else."""
        self.is_saved = False
        self.text.seek(0)
        self.text.truncate()

    def save(self) -> None:
        """Have it on the disk: a full one must be noticed before anything counts on it."""
        self.text.flush()
        os.fsync(self.text.fileno())
        self.is_saved = True

    def keep(self) -> None:
        """What it goes with is done."""
        self.is_kept = True


@contextmanager
def new_file(path: Path | None) -> Iterator[NewFile | None]:
    """The file; None without a path. A wrong call if it exists, `VoucherSyncError` if it cannot be written."""
    if path is None:
        yield None
        return
    if path.exists():
        raise click.UsageError(f"{path} exists: name a new file")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as text:
            file = NewFile(text)
            try:
                yield file
            except CommitUnknown as error:
                raise CommitUnknown(f"{error}; {_has_the_codes(path)}") from None
            except Exception:
                if not file.is_kept:
                    path.unlink(missing_ok=True)
                raise
            except BaseException:  # a Ctrl-C, perhaps in the very commit
                if file.is_saved:
                    click.echo(f"Note: {UNKNOWN}; {_has_the_codes(path)}", err=True)
                else:
                    path.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise VoucherSyncError(f"{path} cannot be written: {error.strerror}; nothing is done") from error


def _has_the_codes(path: Path) -> str:
    return f"{path} has the codes that are there if it was"
