"""Directories for embedded servers."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_directory() -> Iterator[Path]:
    """A new directory, gone afterwards. Not pytest's own, which the user of root's server cannot reach."""
    with tempfile.TemporaryDirectory(prefix="voucher-sync-embedded-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)
