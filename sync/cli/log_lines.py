"""Log lines, written beside the work: who reads them too slowly, or not at all, holds up nothing but them."""

import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from threading import Thread

from sync.cli import streams
from sync.logger import structlog

MOST_LINES = 10_000
"""That wait for their reader, some megabytes; what comes beyond them is dropped."""
FLUSHED_AFTER_S = 1.0
"""So long an end waits for the reader of the last lines."""

log = structlog.get_logger()


class LineWriter(logging.Handler):
    """Writes each line to a descriptor, in a thread of its own: a pipe or terminal that is full holds up its writer.

    What was dropped, or could not be written, is counted, and told once half of those that wait are through.
    """

    def __init__(self, descriptor: int, most_lines: int = MOST_LINES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._encoding = sys.stderr.encoding
        self._lines = Queue[bytes](most_lines)
        self._lost = 0
        Thread(target=self._write_all, name="log lines", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Let it be written, soon."""
        try:
            line = f"{self.format(record)}\n".encode(self._encoding, "backslashreplace")
        except Exception:  # noqa: BLE001 - as any handler: what cannot be told ends nothing
            self.handleError(record)
            return
        if self._lost and self._lines.qsize() <= self._lines.maxsize // 2:
            lost, self._lost = self._lost, 0
            log.warning("log_lines_lost", lines=lost)
        if self._lines.full() or self._lost:
            self._lost += 1
        else:
            self._lines.put(line)

    def flush(self) -> None:
        """Wait until all is written, or for a second."""
        self.is_through()

    def is_through(self) -> bool:
        """Whether all is written, within a second."""
        with self._lines.all_tasks_done:
            return self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, FLUSHED_AFTER_S)

    def _failed(self) -> None:
        self.acquire()
        self._lost += 1
        self.release()

    def _write_all(self) -> None:
        while True:
            line = self._lines.get()
            try:
                while line:
                    line = self._write(line)
            except OSError:  # its reader has gone, or the disk is full, which may have room again
                self._failed()
            finally:
                self._lines.task_done()

    def _write(self, line: bytes) -> bytes:
        """What is left of it."""
        try:
            return line[os.write(self._descriptor, line) :]
        except BlockingIOError:  # whoever else has the terminal or pipe may set it so
            select.select([], [self._descriptor], [])
            return line


@contextmanager
def written_beside() -> Iterator[LineWriter]:
    """A writer to stderr. Where nobody reads that in the end, what is still printed to it is forgotten."""
    writer = LineWriter(sys.stderr.fileno())
    try:
        yield writer
    finally:
        if not writer.is_through():
            streams.forget(sys.stderr.fileno())
