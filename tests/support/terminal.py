"""`voucher-sync` at a terminal at which somebody sits: what it shows is read, and what it asks is answered."""

import asyncio
import fcntl
import os
import pty
import sys
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from tests.support.process import Ended, environment

ENTER, INTERRUPT, END_OF_INPUT = "\n", "\x03", "\x04"
"""Keys: the second is Ctrl-C, the third Ctrl-D."""
CHUNK = 65_536


class Terminal:
    """The terminal's other side: `shown` is all that has come so far."""

    def __init__(self, ours: int, process: Process) -> None:
        self.shown = ""
        self._ours: int | None = ours
        self._process = process
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(ours, self._read)

    async def until(self, words: str) -> None:
        """Waits until these words are shown."""
        while words not in self.shown:
            assert self._ours is not None, self.shown
            self._news.clear()
            await self._news.wait()

    async def is_read(self) -> None:
        """Waits until the process sleeps: a signal that comes before its read has begun would not end that."""
        while psutil.Process(self._process.pid).status() != psutil.STATUS_SLEEPING:  # noqa: ASYNC110 - nobody tells it
            await asyncio.sleep(0.01)

    def type(self, keys: str) -> None:
        """Presses keys."""
        assert self._ours is not None
        os.write(self._ours, keys.encode())

    def terminate(self) -> None:
        """Somebody sends the process a SIGTERM, as `timeout` does."""
        self._process.terminate()

    def hang_up(self) -> None:
        """The terminal is gone, as when its window is closed."""
        if self._ours is not None:
            asyncio.get_running_loop().remove_reader(self._ours)
            os.close(self._ours)
            self._ours = None
            self._news.set()

    async def end(self) -> Ended:
        """Waits for the end of the process."""
        code = await self._process.wait()
        while self._ours is not None:
            self._read()
        return Ended(code, self.shown, "")

    def _read(self) -> None:
        assert self._ours is not None
        try:
            part = os.read(self._ours, CHUNK)
        except OSError:
            part = b""  # on Linux a terminal that nobody has open any more ends so
        if not part:
            self.hang_up()
        self.shown += part.decode().replace("\r\n", "\n")
        self._news.set()


@asynccontextmanager
async def terminal(
    *arguments: str, settings: Mapping[str, str], directory: Path, output: int | None = None
) -> AsyncIterator[Terminal]:
    """A command with these settings alone at a terminal of its own, which gets its signals from there.

    `output`: where its standard output goes, if not to the terminal.
    """
    ours, its = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sync", *arguments, env=environment(settings), cwd=directory,
        stdin=its, stdout=its if output is None else output, stderr=its, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(its)
    opened = Terminal(ours, process)
    try:
        yield opened
    finally:
        opened.hang_up()
        if process.returncode is None:
            process.kill()
            await process.wait()
