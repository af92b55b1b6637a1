"""The real daemon as a process of its own, started again whenever it is killed."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from sync.core.errors import VoucherSyncError

STOP_TIMEOUT_S = 15
OWN_PREFIXES = ("SYNC_", "MEWS_", "DATABASE_URL")


@asynccontextmanager
async def running_daemon(
    settings: Mapping[str, str], directory: Path, say: Callable[[str], None]
) -> AsyncIterator[asyncio.Task[None]]:
    """`voucher-sync run` with these settings alone; yields a task that fails as soon as the daemon cannot be kept up.

    `directory` is where it runs and keeps its state; it must hold no `.env`. What happens is told through `say`.
    """
    keeper = _Keeper(settings, directory, say)
    await keeper.start()
    task = asyncio.create_task(keeper.keep_up())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, VoucherSyncError):
            await task
        await keeper.stop()


class _Keeper:
    def __init__(self, settings: Mapping[str, str], directory: Path, say: Callable[[str], None]) -> None:
        others = {name: value for name, value in os.environ.items() if not name.upper().startswith(OWN_PREFIXES)}
        # Not in the user's data: the witness of a database that is gone would stay there for ever.
        self._environment = {**others, "SYNC_STATE_DIR": str(directory / "state"), **settings}
        self._directory = directory
        self._say = say
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        # In a session of its own: Ctrl-C in the terminal is for the demo, which then stops the daemon.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sync", "run",
            cwd=self._directory, env=self._environment, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._say(f"the daemon runs as process {self._process.pid}")

    async def keep_up(self) -> None:
        """Start the daemon again whenever a signal ends it; an end of its own accord is an error."""
        while self._process is not None:
            code = await self._process.wait()
            if code >= 0:
                raise VoucherSyncError(f"the daemon ended by itself with exit code {code}: its last lines say why")
            self._say(f"the daemon was ended by {signal.Signals(-code).name}; starting it again")
            await self.start()

    async def stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            raise VoucherSyncError(f"the daemon did not stop within {STOP_TIMEOUT_S} s of SIGTERM") from None
