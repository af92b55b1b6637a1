"""What is told of a change of connections, and what the database refuses of them."""

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection import store
from sync.connection.tables import CONNECTIONS_CHANNEL
from sync.fleet import registry
from sync.fleet.ownership import load_owned
from sync.postgres.engine import in_transaction
from sync.service import states
from sync.service.states import Standing

STORED = """
INSERT INTO sync.connections (name, state, origin, platform_address, access_token, added_at)
VALUES ('lake', 'ok', 'command', 'https://api.mews.com', 'x', now())
"""
TELLING = {
    "add": STORED.replace("lake", "hill"),
    "pause": "UPDATE sync.connections SET paused_at = now(), paused_because = 'sold' WHERE name = 'lake'",
    "rotate": "UPDATE sync.connections SET access_token = 'y' WHERE name = 'lake'",
    "remove": "UPDATE sync.connections SET removed_at = now(), access_token = NULL WHERE name = 'lake'",
    "purge": "DELETE FROM sync.connections WHERE name = 'lake'",
}
REFUSED = {
    "origin": "origin = 'elsewhere'",
    "name": "name = ''",
    "stored_is_whole": "access_token = NULL",
    "no_needless_token": "removed_at = now()",
    "pause": "paused_because = 'sold'",
    "epoch": "epoch = -1",
}


def heard(listener: psycopg.Connection, timeout_s: float) -> int:
    return len(list(listener.notifies(timeout=timeout_s, stop_after=1)))


@pytest.fixture
def listener(database_url: str) -> psycopg.Connection:
    connection = psycopg.connect(database_url, autocommit=True)
    connection.execute(STORED)
    connection.execute(f"LISTEN {CONNECTIONS_CHANNEL}".encode())
    return connection


@pytest.mark.direct
@pytest.mark.parametrize("change", TELLING.values(), ids=TELLING)
def test_another_set_of_connections_is_told(listener: psycopg.Connection, change: str) -> None:
    with listener:
        listener.execute(change.encode())
        assert heard(listener, timeout_s=5) == 1


@pytest.mark.direct
async def test_how_a_connection_is_doing_is_told_nobody(listener: psycopg.Connection, engine: AsyncEngine) -> None:
    async def report(tx: AsyncConnection) -> None:
        await states.note(tx, "lake", Standing("it fails", "ApiError"))
        await states.note(tx, "lake", Standing())
        await store.remember(tx, "lake", "https://api.mews.com", b"token", [], is_stored=True)

    with listener:
        await in_transaction(engine, report)
        assert heard(listener, timeout_s=0.2) == 0


@pytest.mark.parametrize("rule", REFUSED)
def test_the_database_refuses_what_no_connection_is(database_url: str, rule: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(STORED)
        with pytest.raises(psycopg.errors.CheckViolation, match=f"connections_{rule}_check"):
            connection.execute(f"UPDATE sync.connections SET {REFUSED[rule]} WHERE name = 'lake'".encode())


async def test_what_is_paused_or_removed_is_not_active(database_url: str, engine: AsyncEngine) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        for name in ("lake", "hill", "moor"):
            connection.execute(STORED.replace("lake", name).encode())
        connection.execute(TELLING["pause"].encode())
        connection.execute(TELLING["remove"].replace("lake", "hill").encode())
    await in_transaction(engine, registry.register_environment)
    active = await in_transaction(engine, registry.load_active)
    present = await in_transaction(engine, registry.load_present)
    assert [(one.name, one.origin) for one in active] == [("default", "environment"), ("moor", "command")]
    assert [one.name for one in present] == ["default", "lake", "moor"]


async def test_a_stored_one_of_its_name_that_was_removed_makes_room_for_the_environment_s(
    database_url: str, engine: AsyncEngine
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(STORED.replace("lake", "default").encode())
        connection.execute(TELLING["remove"].replace("lake", "default").encode())
    await in_transaction(engine, registry.register_environment)
    (one,) = await in_transaction(engine, registry.load_active)
    assert (one.name, one.origin, one.access_token) == ("default", "environment", None)


async def test_a_row_without_tokens_under_another_name_gets_none_of_the_environment(
    database_url: str, engine: AsyncEngine
) -> None:
    await in_transaction(engine, registry.register_environment)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE sync.connections SET name = 'main'")
    assert await in_transaction(engine, registry.load_active) == []
    assert await in_transaction(engine, registry.load_present) == []
    assert await in_transaction(engine, load_owned) == []
