"""A replica in the test's own process, which owns connections and tells of them as the daemon does."""

from collections.abc import Collection
from contextlib import suppress
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.core.errors import DatabaseError
from sync.fleet import ownership, registry, replicas
from sync.fleet.assignment import ENVIRONMENT, Member
from sync.fleet.caught_up import CaughtUpBook
from sync.postgres.engine import in_transaction
from sync.service import app
from sync.service.heartbeats import Heartbeats
from sync.service.jobs import Jobs
from sync.settings import Settings


class Owner:
    """It is known by the name of the connection's process; what another one owns it takes, as if that had died."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._engine = connection.engine
        self._replica = app.describe_replica(connection.process, settings)
        self._me = Member(connection.process, frozenset({ENVIRONMENT}))
        self._heartbeats = Heartbeats(connection.engine, connection.incarnation, CaughtUpBook(connection.process))

    async def beat(self, all_jobs: Collection[Jobs]) -> None:
        """Tells of these connections; what the database does not take is told with a later beat."""
        names = {jobs.connection.name for jobs in all_jobs}
        with suppress(DatabaseError):
            await in_transaction(self._engine, partial(self._own, names=names))
        await self._heartbeats.tell([*all_jobs])

    async def _own(self, tx: AsyncConnection, names: Collection[str]) -> None:
        await registry.register_environment(tx)
        await replicas.beat(tx, self._replica, self._me, holds_lock=False)
        found = await ownership.load_owned(tx)
        others = [one for one in found if one.name in names and one.owner != self._me.process]
        await ownership.take(tx, self._me.process, others)
