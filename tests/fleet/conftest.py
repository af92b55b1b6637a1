"""Fixtures of the tests of replicas without their work."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.fleet import membership
from sync.postgres.engine import make_engine
from tests.fleet.members import HOTELS, Time
from tests.fleet.test_registry import STORED


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(membership, "now_s", time)
    return time


@pytest.fixture
def hotels(database_url: str) -> None:
    """Ten hotels."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for number in range(HOTELS):
            connection.execute(STORED.replace("lake", f"hotel {number}").encode())


@pytest.fixture
async def engines(hotels: None, database_url: str) -> AsyncIterator[list[AsyncEngine]]:
    """Engines of three replicas, and ten hotels."""
    engines = [make_engine(database_url, 2) for _ in range(3)]
    yield engines
    for engine in engines:
        await engine.dispose()
