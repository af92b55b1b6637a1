"""Which connections of a replica begin: a few at a time, in the order in which it was given them."""

import asyncio
from contextlib import suppress

from sync.service.jobs import Jobs

BEGUN_AT_ONCE = 32
"""So many connections at most are before the end of their first pull: thousands would keep each other waiting."""
BEGINS_S = 3.0
"""One that is slow, as where its API does not answer, keeps others waiting no longer."""


class StartQueue:
    """`waiting`: the jobs of those that have not begun."""

    def __init__(self, at_once: int = BEGUN_AT_ONCE) -> None:
        self.waiting: list[Jobs] = []
        self._places = asyncio.Semaphore(at_once)
        self._pacing: dict[Jobs, asyncio.Task[None]] = {}

    async def begin(self, jobs: Jobs, stop: asyncio.Event) -> bool:
        """Wait until a connection may begin; whether it may, or was stopped before.

        Its place is another's once it has pulled, or ends, or takes long.
        """
        may_begin = await self._has_place(jobs, stop)
        if may_begin:
            self._pacing[jobs] = asyncio.create_task(self._let_next_begin(jobs))
        return may_begin

    async def end(self, jobs: Jobs) -> None:
        """Let the next one begin, if it waits for one that ends."""
        jobs.has_pulled.set()
        if (pacing := self._pacing.get(jobs)) is not None:
            await pacing

    async def _has_place(self, jobs: Jobs, stop: asyncio.Event) -> bool:
        self.waiting.append(jobs)
        waits = [asyncio.create_task(self._places.acquire()), asyncio.create_task(stop.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.waiting.remove(jobs)
            for wait in waits:
                wait.cancel()
            has_place, _ = await asyncio.gather(*waits, return_exceptions=True)
            is_stopped = stop.is_set()
            if has_place is True and is_stopped:
                self._places.release()
        return has_place is True and not is_stopped

    async def _let_next_begin(self, jobs: Jobs) -> None:
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(jobs.has_pulled.wait(), BEGINS_S)
        finally:
            self._pacing.pop(jobs, None)
            self._places.release()
