"""The line to PostgreSQL, and how soon one that fell silent is let go of.

Whoever stops waiting for a statement, as once its time is over, has psycopg tell the server so over another line, and
then wait for the statement's end: five seconds for each, in which a sign of life comes too late, and a stop does.
"""

import asyncio
import os
import socket
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

R = TypeVar("R")

LET_GO_S = 1.0
"""For each of the two; a server that is there answers the second at once."""
LOOK_S = 0.1
"""How often psycopg looks whether a wait is over by its clock, as it does by itself."""


class Line(psycopg.AsyncConnection[Any]):
    """As psycopg's own, but that it is shut as soon as a statement that is waited for no longer does not end."""

    _shutting: asyncio.TimerHandle | None = None

    async def wait(self, gen: PQGen[R], interval: float = LOOK_S, timeout: float | None = None) -> R:
        """What comes of it."""
        try:
            return await super().wait(gen, interval, timeout)
        finally:
            if self._shutting:
                self._shutting.cancel()

    async def _try_cancel(self, *, timeout: float = LET_GO_S) -> None:
        """Have the server end the statement. If it does not, psycopg finds the line shut, and closes it."""
        await super()._try_cancel(timeout=min(timeout, LET_GO_S))
        self._shutting = asyncio.get_running_loop().call_later(LET_GO_S, self._shut)

    def _shut(self) -> None:
        if not self.closed:
            with socket.socket(fileno=os.dup(self.pgconn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)


OF_ENGINES = {"autocommit": True, "async_creator_fn": Line.connect}
"""How an engine connects; its transactions are begun by a statement of ours."""
