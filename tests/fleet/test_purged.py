"""A connection that was purged is gone, whatever whoever worked for it until then has still to note."""

from datetime import UTC, datetime

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection import store
from sync.fleet import changes
from sync.fleet.purge import purge
from sync.mirror.watermarks import CaughtUp
from sync.postgres.engine import in_transaction
from sync.service import states
from sync.service.states import Standing
from tests.fleet.test_registry import STORED


async def test_what_is_noted_of_it_later_does_not_make_it_anew(engine: AsyncEngine, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(STORED)
        await in_transaction(engine, lambda tx: changes.remove(tx, "lake"))
        await purge(engine, "lake")

        async def note(tx: AsyncConnection) -> None:
            await states.note(tx, "lake", Standing("it fails", "ApiError"))
            await states.note_caught_up(tx, "lake", CaughtUp(datetime.now(UTC), datetime.now(UTC)))
            await store.remember(tx, "lake", "https://api.mews.com", b"token", [], is_stored=True)

        await in_transaction(engine, note)
        assert connection.execute("SELECT name FROM sync.connections").fetchall() == []
        assert connection.execute("SELECT connection FROM sync.outages").fetchall() == []
