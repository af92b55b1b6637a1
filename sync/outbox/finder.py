"""Finding what is due for one connection, turn after turn, and what rows wait for that cannot go yet."""

from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.outbox import followers, look, routing
from sync.outbox.claims import as_daemon, by_index
from sync.outbox.dispatch import MirrorFreshness
from sync.outbox.routing import Waiting
from sync.postgres.engine import in_transaction

WAITS_FOR_NOTHING = Waiting(discovery=False, pull=False)


class DueFinder:
    """`seen`: by the last look; `waiting`: what rows waited for then."""

    def __init__(self, connection: Connection) -> None:
        self.seen = look.NOTHING
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
        earlier = partial(look.has_earlier, connection=self._connection.name, since=self.seen.since)
        return await in_transaction(self._connection.engine, earlier, by_index)

    async def find(self, freshness: MirrorFreshness) -> look.Seen:
        """What is due, once what waited has been sorted out by how fresh the mirror is. Raises `DatabaseError`."""
        await self._look()
        if self.seen.has_unassigned or self.seen.has_followers:
            await self._sort_out(freshness)
            await self._look()
        else:
            self.waiting, self._followers_seen = WAITS_FOR_NOTHING, None
        return self.seen

    async def _look(self) -> None:
        if self._is_to_look_back:
            self.seen, self._is_to_look_back = look.NOTHING, False
        see = partial(look.look, connection=self._connection.name, before=self.seen)
        self.seen = await in_transaction(self._connection.engine, see, by_index)

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
