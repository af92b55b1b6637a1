"""One look at the database for all who ask within a few seconds: the jobs have it for themselves, however many ask."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool

from sync.core.errors import DatabaseError, DatabaseUnavailable
from sync.postgres.snapshot import snapshot_within

T = TypeVar("T")

LOOK_S = 3.0
"""The database has so long to answer, and then the statement is ended."""
PAUSES = 20
"""A look that took long is good for so many times as long: of a session's time all looks take 5 % at most."""
OLD_S = 60.0
"""While every session is at work, what was found is told again for so long; then one is waited for."""


class DatabaseLook(Generic[T]):
    """What `work` finds, `good_for_s` seconds old at most; `work` only reads."""

    def __init__(
        self,
        engine: AsyncEngine,
        work: Callable[[AsyncConnection], Awaitable[T]],
        *,
        good_for_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._work = work
        self._good_for_s = good_for_s
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._found: T | DatabaseError = DatabaseUnavailable("the database was not looked at yet")
        self._looked_s = clock() - OLD_S
        self._took_s = 0.0

    async def __call__(self) -> T:
        """Raises `DatabaseError`, which is remembered, too."""
        async with self._one_at_a_time:
            age_s = self._clock() - self._looked_s
            good_for_s = max(self._good_for_s, PAUSES * self._took_s)
            if age_s >= good_for_s and (age_s >= OLD_S or self._has_free_session()):
                began_s = self._clock()
                self._found = await self._look()
                self._looked_s = self._clock()
                # One that failed is no measure: a database that is back is to be seen soon.
                self._took_s = 0.0 if isinstance(self._found, DatabaseError) else self._looked_s - began_s
        if isinstance(self._found, DatabaseError):
            raise self._found.with_traceback(None)  # else it would grow by all who are told, and keep their frames
        return self._found

    def _has_free_session(self) -> bool:
        pool = self._engine.pool
        return not isinstance(pool, QueuePool) or pool.checkedout() < pool.size()

    async def _look(self) -> T | DatabaseError:
        try:
            async with asyncio.timeout(LOOK_S), snapshot_within(self._engine, LOOK_S) as tx:
                return await self._work(tx)
        except TimeoutError:
            return DatabaseUnavailable(f"the database gave no answer within {LOOK_S:g} s")
        except DatabaseError as error:
            return error
