"""Finding what is due for one connection, turn after turn, and what rows wait for that cannot go yet."""

from collections.abc import Iterable
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.mirror.freshness import MirrorFreshness
from sync.outbox import followers, routing
from sync.outbox.claims import as_daemon, by_index
from sync.outbox.look import NOTHING, Seen, has_earlier, look, look_and_lock
from sync.outbox.routing import Waiting
from sync.outbox.rules import Row
from sync.postgres.engine import in_transaction

WAITS_FOR_NOTHING = Waiting(discovery=False, pull=False)


class DueFinder:
    """`seen`: by the last look; `waiting`: what rows waited for then."""

    def __init__(self, connection: Connection) -> None:
        self.seen = NOTHING
        self.waiting = WAITS_FOR_NOTHING
        self._connection = connection
        self._is_to_look_back = False
        self._followers_seen: followers.Reached | None = None

    def look_back(self) -> None:
        """Have the next look begin where the outbox does."""
        self._is_to_look_back = True  # a flag, since a look may be under way

    async def has_earlier(self) -> bool:
        """Whether something is due that no look has seen, as of a transaction that was open for long.

        Reads the past of the outbox as far as nothing is cleaned away of it. Raises `DatabaseError`.
        """
        earlier = partial(has_earlier, connection=self._connection.name, since=self.seen.since)
        return await in_transaction(self._connection.engine, earlier, by_index)

    async def find(self, freshness: MirrorFreshness, *, is_looked: bool = False) -> Seen:
        """What is due, once what waited has been sorted out by how fresh the mirror is. Raises `DatabaseError`.

        `is_looked`: a look was taken just now.
        """
        if not is_looked:
            self.take(await self._looked())
        if self.seen.has_waiting:
            await self._sort_out(freshness)
            self.seen = await self._looked()
        return self.seen

    async def look(self, tx: AsyncConnection) -> Seen:
        """What is due now, to be taken once the transaction is committed."""
        return await look(tx, self._connection.name, self._before())

    async def look_and_lock(self, tx: AsyncConnection, without: Iterable[int]) -> tuple[Seen, list[Row]]:
        """The same, and of few rows those that may go, locked."""
        return await look_and_lock(tx, self._connection.name, self._before(), without)

    def take(self, seen: Seen) -> None:
        """Go on from what a look has seen."""
        self.seen = seen
        if not seen.has_waiting:
            self.waiting, self._followers_seen = WAITS_FOR_NOTHING, None

    def _before(self) -> Seen:
        if self._is_to_look_back:
            self.seen, self._is_to_look_back = NOTHING, False
        return self.seen

    async def _looked(self) -> Seen:
        return await in_transaction(self._connection.engine, self.look, by_index)

    async def _sort_out(self, freshness: MirrorFreshness) -> None:
        """Have rows go, or fail, that wait for a voucher or code to become known, or for another row."""
        name, engine = self._connection.name, self._connection.engine
        has_unassigned = True
        while has_unassigned:
            has_unassigned = await in_transaction(engine, lambda tx: routing.assign(tx, name), as_daemon)

        async def sort_out(tx: AsyncConnection) -> tuple[followers.Reached | None, Waiting]:
            return await followers.move_some(tx, self._followers_seen), await routing.fail_unknown(
                tx, name, discovered_as_of=freshness.discovered_as_of, caught_up_as_of=freshness.complete_as_of
            )

        self._followers_seen, self.waiting = await in_transaction(engine, sort_out, as_daemon)
