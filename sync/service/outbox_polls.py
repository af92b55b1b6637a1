"""What the scheduler asks of a connection's outbox every few seconds, left out while nothing in it is unfinished.

While the outbox fails, or the database has not been looked at yet, all is asked as if there were something: so troubles
are told, and end, as they do without this. But not for a platform that answers nobody: thousands of connections that
asked every few seconds, in vain, would take all sessions from what is to tell that this process lives.
"""

import time
from collections.abc import Callable

from sync.connection.connection import Connection
from sync.core.errors import DatabaseError
from sync.outbox.unfinished import Unfinished
from sync.postgres.shared_look import Looked, SharedLook
from sync.service.health import Health
from sync.service.outbox_worker import OutboxJobs

WHOLE_LOOK_S = 3600.0
"""So often what is unfinished is looked up whatever the common look says: rows of attempts that are not there."""
JOBS = ("outbox", "push", "settle")
"""What fails of an outbox is told by one of these, and ended by it."""
ALL = "all"
"""Who polls all connections of a process together asks by this name."""


class OutboxPolls:
    """The polls of one connection, whose `look` is shared by all of the process."""

    __slots__ = ("_checks", "_clock", "_connection", "_health", "_look", "_outbox", "_whole_look_s")

    def __init__(
        self,
        connection: Connection,
        outbox: OutboxJobs,
        health: Health,
        look: SharedLook[Unfinished],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._outbox = outbox
        self._health = health
        self._look = look
        self._clock = clock
        self._checks: int | None = None
        self._whole_look_s = clock()

    async def look(self, *, anew: bool = False) -> Looked[Unfinished] | None:
        """What is unfinished of all connections of the process, for who polls them together; None: it is not known.

        `anew`: as of now, and not as somebody has seen it a moment ago.
        """
        try:
            return await self._look.ask(ALL, anew=anew)
        except DatabaseError:
            return None  # whoever polls each for itself meets the same, and tells it

    def are_needless(self, looked: Looked[Unfinished] | None) -> bool:
        """Whether none of the polls would find anything, by a look for all."""
        is_new = self._connection.incarnation.checks != self._checks or self._clock() >= self._whole_look_s
        if looked is None or (is_new and not self._health.is_platform_away) or not self._may_be_finished():
            return False
        return self._is_finished_by(looked)

    async def wake(self) -> None:
        """Have the outbox pushed: what waited for its time, or a lost notification."""
        if await self._is_finished("wake"):
            await self._health.note("outbox", None)
        else:
            self._outbox.wake.set()

    async def find_earlier(self) -> None:
        """Find what is due and no look has seen, and what waits for a connection that nobody works for."""
        looked = await self._looked("find_earlier")
        if looked is not None and self._connection.name in looked.found.left_behind:
            await self._outbox.take_left_behind()
        if looked is None or not self._is_finished_by(looked):
            await self._outbox.find_earlier()

    async def look_up(self) -> None:
        """Reconcile what is uncertain, as far as it is due."""
        checks = self._connection.incarnation.checks
        is_new = checks != self._checks or self._clock() >= self._whole_look_s
        if not is_new and await self._is_finished("look_up"):
            await self._health.note("settle", None)
            return
        if await self._outbox.look_up() is None and is_new:
            self._checks, self._whole_look_s = checks, self._clock() + WHOLE_LOOK_S

    async def _is_finished(self, poll: str) -> bool:
        looked = await self._looked(poll)
        return looked is not None and self._is_finished_by(looked)

    async def _looked(self, poll: str) -> Looked[Unfinished] | None:
        """What the common look tells; None where it is not to be gone by."""
        if not self._may_be_finished():
            return None
        try:
            return await self._look.ask((self._connection.name, poll))
        except DatabaseError:
            return None  # whoever asks next meets the same, and tells it

    def _may_be_finished(self) -> bool:
        known = self._connection.incarnation.known
        if known is None or known.id is None or known.gap:
            return False
        return self._health.is_platform_away or not self._health.is_failing(*JOBS)

    def _is_finished_by(self, looked: Looked[Unfinished]) -> bool:
        if not (clock := self._outbox.watch.database_clock).is_new:
            clock.observe(looked.found.now + looked.age)
        return not looked.found.concerns(self._connection.name)
