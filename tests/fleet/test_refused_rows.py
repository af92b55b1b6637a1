"""What the database refuses of one connection keeps a replica from no other."""

import psycopg
import pytest
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.core.errors import StatementRefused
from tests.fleet.members import HOTELS, joining


async def test_a_connection_whose_row_is_refused_keeps_no_other_out_and_is_named_once(
    engine: AsyncEngine, hotels: None, database_url: str
) -> None:
    one, guard = joining(engine), "ALTER TABLE sync.connections {} CONSTRAINT guard"
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f"{guard.format('ADD')} CHECK (owner IS NULL OR name <> 'hotel 3')".encode())
        with structlog.testing.capture_logs() as logs:
            for _ in range(2):
                assert (await one.beat()).owned.keys() == {f"hotel {n}" for n in range(HOTELS)} - {"hotel 3"}
        (told,) = logs
        assert (told["event"], told["connection"]) == ("not_taken", "hotel 3")
        assert "constraint guard of sync.connections" in told["error"]
        owner.execute(guard.format("DROP").encode())
    assert len((await one.beat()).owned) == HOTELS


async def test_what_refuses_every_connection_is_told_as_the_beat_that_failed(
    engine: AsyncEngine, hotels: None, database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("ALTER TABLE sync.connections ADD CONSTRAINT guard CHECK (owner IS NULL)")
    with pytest.raises(StatementRefused, match=r"constraint guard of sync\.connections"):
        await joining(engine).beat()
