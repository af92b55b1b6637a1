"""One look at the database for all who ask at about the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.postgres.engine import Opened, in_transaction, transaction

T = TypeVar("T")

BUSY_SHARE = 20
"""A look is of use for so many times as long as it took: where thousands ask, a session is busy a twentieth of the
time."""


@dataclass(frozen=True, slots=True)
class Looked(Generic[T]):
    """What a look has found, and how long ago it began."""

    found: T
    age: timedelta


class SharedLook(Generic[T]):
    """`look` reads what all want to know; each look serves everybody once, for a while.

    So where only one asks, that is a look each time, of what stands then.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        look: Callable[[AsyncConnection], Awaitable[T]],
        opened: Opened = transaction,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._look = look
        self._opened = opened
        self._clock = clock
        self._looking = asyncio.Lock()
        self._last: T | None = None
        self._began_s = self._ended_s = 0.0
        self._served: set[Hashable] = set()

    async def ask(self, who: Hashable, *, anew: bool = False) -> Looked[T]:
        """What the last look has found, or a new one, for whoever asks by this name. Raises `DatabaseError`.

        `anew`: a new one in any case, as for who has just heard of something.
        """
        async with self._looking:
            last = self._last
            if anew or last is None or who in self._served or self._is_old():
                began_s = self._clock()
                last = await in_transaction(self._engine, self._look, self._opened)
                self._last, self._began_s, self._ended_s = last, began_s, self._clock()
                self._served.clear()
            self._served.add(who)
            return Looked(last, timedelta(seconds=self._clock() - self._began_s))

    def _is_old(self) -> bool:
        return self._clock() - self._ended_s > BUSY_SHARE * (self._ended_s - self._began_s)
