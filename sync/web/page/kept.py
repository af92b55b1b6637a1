"""What is kept between requests: nobody waits for the database who can be told what it said some seconds ago."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Generic, TypeVar

from sync.core.errors import DatabaseError

_numbers = count(1)

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

KEPT = 20
"""Connections that are looked at one by one, of which what was found is kept."""
TOLD_FOR_S = 10.0
"""What is older is not told before the database was asked again."""


class Kept(OrderedDict[K, V]):
    """What was used last, of so many keys at most."""

    def get_or(self, key: K, make: Callable[[], V]) -> V:
        """What is kept under a key, or else is made and kept now; what was longest not used is forgotten."""
        value = self[key] = self[key] if key in self else make()
        self.move_to_end(key)
        while len(self) > KEPT:
            self.popitem(last=False)
        return value


class Remembered(Generic[T]):
    """What `look` last found, and why it finds nothing now. It is asked anew for each who asks, while that one goes on
    with what is known already. `number` is another one, of all in this process, whenever either is another.
    """

    def __init__(self, look: Callable[[], Awaitable[T]], clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._clock = look, clock
        self._looking: asyncio.Task[None] | None = None
        self._looked_s = clock() - TOLD_FOR_S
        self.found: T | None = None
        self.trouble: DatabaseError | None = None
        self.number = next(_numbers)
        self._troubled_since_s = 0.0

    @property
    def trouble_s(self) -> float:
        """For how long the trouble has lasted, as far as anybody has asked."""
        return self._clock() - self._troubled_since_s if self.trouble else 0.0

    async def refresh(self) -> None:
        """Have `found` and `trouble` be of the last seconds."""
        is_old = self._clock() - self._looked_s >= TOLD_FOR_S
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._take())
        if is_old or self.trouble:
            await asyncio.shield(self._looking)

    async def _take(self) -> None:
        before = self.found, self.trouble
        try:
            self.found, self.trouble = await self._look(), None
        except DatabaseError as error:
            self._troubled_since_s = self._troubled_since_s if self.trouble else self._clock()
            self.trouble = error
        if self.found is not before[0] or self.trouble is not before[1]:
            self.number = next(_numbers)
        self._looked_s = self._clock()
