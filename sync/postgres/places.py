"""Waiting for one of an engine's sessions, before the engine is asked for it.

SQLAlchemy runs each transaction on a stack of its own, of tens of kilobytes, and has whoever finds no free session wait
on it. Where thousands of connections begin at once, those stacks would be most of what a process ever needs.

Who has the fewest sessions is next. Nobody has more than half of them, or takes the last one beside another. When they
were given in the order of asking, a hotel with a million changes to push kept all others waiting for 0.35 s each time.
"""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

PLACES, ASKER = "places", "asker"
"""Execution options of an engine: its `Places`, and the name of whom it is asked for."""


class Places:
    """A place for each session of an engine. Who asks by no name is not counted, and goes as if it had none."""

    def __init__(self, sessions: int) -> None:
        self._free = sessions
        self._most = -(-sessions // 2)
        self._held = Counter[str]()
        self._waiting: dict[asyncio.Future[None], str | None] = {}

    async def acquire(self, asker: str | None) -> None:
        """Wait for a place."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = asker
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                del self._waiting[turn]
            else:  # it was given one meanwhile
                self.release(asker)
            raise

    def release(self, asker: str | None) -> None:
        """Let another one have it."""
        self._free += 1
        if asker is not None:
            self._held[asker] -= 1
            if not self._held[asker]:
                del self._held[asker]
        self._let_in()

    def _let_in(self) -> None:
        while self._free and (turn := self._next()) is not None:
            asker = self._waiting.pop(turn)
            self._free -= 1
            if asker is not None:
                self._held[asker] += 1
            if not turn.done():
                turn.set_result(None)

    def _next(self) -> asyncio.Future[None] | None:
        """The first of those that have the fewest; None: nobody may have one now."""
        found, least = None, math.inf
        for turn, asker in self._waiting.items():
            held = self._held.get(asker, 0) if asker is not None else 0
            if not held:
                return turn
            if self._free > 1 and held < min(least, self._most):
                found, least = turn, held
        return found


def asked_by(engine: AsyncEngine, name: str) -> AsyncEngine:
    """The same engine with the same sessions, for which this one asks. It takes no time to make, and some room."""
    return engine.execution_options(**{ASKER: name})


@asynccontextmanager
async def place(engine: AsyncEngine, within_s: float) -> AsyncIterator[None]:
    """A place for a session of the engine. Raises `PoolTimeout` where there is none within so long."""
    options = engine.get_execution_options()
    places, asker = options[PLACES], options.get(ASKER)
    try:
        async with asyncio.timeout(within_s):
            await places.acquire(asker)
    except TimeoutError as error:
        raise PoolTimeout(f"no session was free for {within_s:g} s") from error
    try:
        yield
    finally:
        places.release(asker)
