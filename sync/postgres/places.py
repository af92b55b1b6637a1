"""Waiting for one of an engine's sessions, before the engine is asked for it.

SQLAlchemy runs each transaction on a stack of its own, of tens of kilobytes, and has whoever finds no free session wait
on it. Where thousands of connections begin at once, those stacks would be most of what a process ever needs.

Who has the fewest sessions is next, and who has used much of them lately waits behind all others. All of those together
have a quarter of the sessions at most, where there are others: a hotel with a million changes to push kept them waiting
for 0.35 s each time. With one of four sessions it made 5 of the 7 calls a second that the API allows, on two cores that
did all else too; a second one took the database's time from the others.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

FIRST = (False, 0)
"""The rank of who has no session, and is behind nobody."""
PASSED_OVER_S = 1.0
"""Nobody waits for longer behind those who have used less: there may always be some."""
LATELY_S = 2.0
"""What was used so long ago counts a third of what is used now."""
FORGOTTEN_S = 0.01
"""What is left of somebody's use is not remembered below this."""
LEAST_ROOM = 1000
"""So many are remembered at least before those are forgotten that have used next to nothing."""
PLACES, ASKER = "places", "asker"
"""Execution options of an engine: its `Places`, and the name of whom it is asked for."""


class Places:
    """A place for each session of an engine. Who asks by no name is not counted, and waits for nobody's share."""

    def __init__(self, sessions: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = sessions
        self._for_busy = -(-sessions // 4)
        self._held = Counter[str]()
        self._clock = clock
        self._others_s = -math.inf
        self._usage = Usage(clock)
        self._waiting: dict[asyncio.Future[None], Turn] = {}

    @property
    def remembered(self) -> list[str]:
        """Whose use of them is known."""
        return self._usage.names

    async def acquire(self, asker: str | None) -> None:
        """Wait for a place."""
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[given] = Turn(asker, self._clock())
        self._let_in()
        try:
            await given
        except asyncio.CancelledError:
            if given in self._waiting:
                del self._waiting[given]
            else:  # it was given one meanwhile
                self.release(asker, 0.0)
            raise

    def release(self, asker: str | None, for_s: float) -> None:
        """Let another one have it, who was given it for so long."""
        self._free += 1
        if asker is not None:
            self._usage.add(asker, for_s)
            self._held[asker] -= 1
            if not self._held[asker]:
                del self._held[asker]
        self._let_in()

    def _let_in(self) -> None:
        while self._free and (given := self._next()) is not None:
            asker = self._waiting.pop(given).asker
            self._free -= 1
            if asker is not None:
                self._held[asker] += 1
                if not self._usage.is_much(asker):
                    self._others_s = self._clock()
            if not given.done():
                given.set_result(None)

    def _next(self) -> asyncio.Future[None] | None:
        """The first of those that go before all others; None: nobody may have a place now."""
        found, least, now_s = None, (True, math.inf), self._clock()
        busy = sum(held for asker, held in self._held.items() if self._usage.is_much(asker))
        is_full = busy >= self._for_busy and now_s - self._others_s < LATELY_S
        for given, turn in self._waiting.items():
            is_busy = turn.asker is not None and self._usage.is_much(turn.asker)
            is_behind = is_busy and now_s - turn.asked_s < PASSED_OVER_S
            rank = (is_behind, self._held.get(turn.asker, 0) if turn.asker is not None else 0)
            if rank < least and not (is_busy and is_full):
                found, least = given, rank
            if least == FIRST:
                break
        return found


@dataclass(frozen=True, slots=True)
class Turn:
    """Of one who waits: by which name it asked, and when."""

    asker: str | None
    asked_s: float


class Usage:
    """For how many seconds each has had sessions lately: what was long ago counts less and less."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._room = LEAST_ROOM
        self._used: dict[str, tuple[float, float]] = {}
        self._total = 0.0, 0.0

    @property
    def names(self) -> list[str]:
        """Whose is known."""
        return [*self._used]

    def add(self, asker: str, for_s: float) -> None:
        """It has had one for so long."""
        self._used[asker] = self._of(asker) + for_s, self._clock()
        self._total = self._left(self._total) + for_s, self._clock()
        if len(self._used) > self._room:
            self._used = {name: used for name, used in self._used.items() if self._of(name) > FORGOTTEN_S}
            self._room = max(LEAST_ROOM, 2 * len(self._used))

    def is_much(self, asker: str) -> bool:
        """Whether it has had more than a quarter of one all the time, and more than an eighth of what all have had.

        In a slow hour the little that each does takes long.
        """
        used_s = self._of(asker)
        return used_s > LATELY_S / 4 and used_s > self._left(self._total) / 8

    def _of(self, asker: str) -> float:
        return self._left(self._used.get(asker, (0.0, 0.0)))

    def _left(self, used: tuple[float, float]) -> float:
        used_s, at_s = used
        return used_s * math.exp((at_s - self._clock()) / LATELY_S)


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
    began_s = time.monotonic()
    try:
        yield
    finally:
        places.release(asker, time.monotonic() - began_s)
