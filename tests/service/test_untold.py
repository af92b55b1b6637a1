"""A connection that cannot be begun is told of, also where the database did not take that at first."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from tests.fleet.replicas import served
from tests.support.daemon import PATIENCE_S, UNSET

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON sync.connections FOR EACH ROW WHEN (NEW.state = 'failing')
EXECUTE FUNCTION refuse();
"""
REFUSE_OUTAGES = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON sync.outages FOR EACH ROW EXECUTE FUNCTION refuse();
"""
STATE = "SELECT state, error_kind FROM sync.connections WHERE name = 'hotel-0'"
OUTAGES = "SELECT count(*) FROM sync.outages WHERE connection = 'hotel-0' AND ended_at IS NULL"


@pytest.mark.long
async def test_what_keeps_a_connection_from_its_beginning_is_told_once_the_database_takes_it(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        served(database_url, tmp_path, 1) as fleet,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as session,
    ):
        await session.execute(REFUSE)
        async with fleet.replica(MEWS_CLIENT_TOKEN=UNSET) as daemon:
            await daemon.event("not_begun")
            for _ in range(10):  # it is refused once at least
                await session.execute("SELECT pg_sleep(0.1)")
            assert await (await session.execute(STATE)).fetchone() == ("ok", None)
            await session.execute("DROP TRIGGER refuse ON sync.connections")
            async with asyncio.timeout(PATIENCE_S):
                while await (await session.execute(STATE)).fetchone() != ("failing", "SettingsError"):
                    await session.execute("SELECT pg_sleep(0.1)")


@pytest.mark.long
async def test_its_outage_is_noted_too_where_only_that_found_no_place_at_first(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        served(database_url, tmp_path, 1) as fleet,
        await psycopg.AsyncConnection.connect(database_url, autocommit=True) as session,
    ):
        await session.execute(REFUSE_OUTAGES)
        async with fleet.replica(MEWS_CLIENT_TOKEN=UNSET) as daemon:
            await daemon.event("not_begun")
            async with asyncio.timeout(PATIENCE_S):
                while await (await session.execute(STATE)).fetchone() != ("failing", "SettingsError"):
                    await session.execute("SELECT pg_sleep(0.1)")
            await session.execute("DROP TRIGGER refuse ON sync.outages")
            async with asyncio.timeout(PATIENCE_S):
                while await (await session.execute(OUTAGES)).fetchone() != (1,):
                    await session.execute("SELECT pg_sleep(0.1)")
