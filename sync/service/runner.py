"""One run of a job: alone, with its outcome noted, and whatever it ends with."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from sync.connection.connection import Connection
from sync.core.errors import Stopped, VoucherSyncError
from sync.core.tracing import span
from sync.service.defects import outlived
from sync.service.health import Health
from sync.service.history import History
from sync.signals import Turn

R = TypeVar("R")


class Runner:
    """Runs the jobs of one connection, and tells `health` and `history` what came of each."""

    __slots__ = ("_connection", "health", "history")

    def __init__(self, connection: Connection, health: Health, history: History) -> None:
        self._connection = connection
        self.health = health
        self.history = history

    async def run(self, job: str, lock: Turn, run: Callable[[float], Awaitable[R]]) -> R | None:
        """What `run` returns, told when it began by the monotonic clock; None if it failed, or the service stops."""
        async with lock:
            if self._connection.stop.is_set():
                return None
            began_s = time.monotonic()
            try:
                name = self._connection.name
                with outlived(job, but=(VoucherSyncError,), connection=name) as ending, span(job, connection=name):
                    return await run(began_s)
            except Stopped:
                return None
            except VoucherSyncError as error:
                await self.note(job, began_s, {}, error)
            else:
                await self.note(job, began_s, {}, ending.error)
            return None

    async def note(
        self,
        job: str,
        began_s: float,
        counts: Mapping[str, int],
        error: VoucherSyncError | None,
        *,
        is_news: bool = False,
    ) -> None:
        """Take the outcome of a run."""
        await self.health.note(job, error)
        await self.history.note(job, began_s, counts, error, is_news=is_news)
