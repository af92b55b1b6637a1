"""Which connections of a replica begin: a few at a time, in the order in which it was given them.

None waits for its place in a task of its own: thousands of those would be most of what a start takes.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from sync.service.jobs import Jobs

BEGUN_AT_ONCE = 32
"""So many connections at most are before the end of their first pull: thousands would keep each other waiting."""
BEGINS_S = 3.0
"""One that is slow, as where its API does not answer, keeps others waiting no longer."""


class StartQueue:
    """`waiting`: the jobs of those that have not begun, each with what begins them, and what comes behind its pull."""

    def __init__(self, at_once: int = BEGUN_AT_ONCE) -> None:
        self.waiting: dict[Jobs, tuple[Callable[[], None], Callable[[], None]]] = {}
        self._at_once = at_once
        self._beginning: dict[Jobs, asyncio.Task[None]] = {}

    def enter(self, jobs: Jobs, begin: Callable[[], None], go_on: Callable[[], None] = lambda: None) -> None:
        """Have `begin` called once a connection may begin, and `go_on` once it has pulled, or leaves, or takes long.

        Then its place is another's.
        """
        self.waiting[jobs] = begin, go_on
        self._fill()

    async def leave(self, jobs: Jobs) -> None:
        """Begin it no more if it has not begun, and let the next one begin if that waits for it."""
        self.waiting.pop(jobs, None)
        jobs.has_pulled.set()
        if (beginning := self._beginning.get(jobs)) is not None:
            await beginning

    def _fill(self) -> None:
        while self.waiting and len(self._beginning) < self._at_once:
            jobs = next(iter(self.waiting))
            begin, go_on = self.waiting.pop(jobs)
            self._beginning[jobs] = asyncio.create_task(self._keep_place(jobs, go_on))
            begin()

    async def _keep_place(self, jobs: Jobs, go_on: Callable[[], None]) -> None:
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(jobs.has_pulled.wait(), BEGINS_S)
        finally:
            del self._beginning[jobs]
            go_on()
            self._fill()
