"""`voucher-sync check` sees whether the database takes anything, and leaves it alone otherwise."""

import psycopg
import pytest

from tests.migrations.helpers import query

from .conftest import Cli

MANY = "INSERT INTO sync.connections (name, state) SELECT 'hotel-' || n, 'ok' FROM generate_series(1, 50) AS n"
WRITTEN_TOGETHER = "SELECT count(*) FROM sync.connections GROUP BY xmin::text ORDER BY 1"


@pytest.mark.direct
async def test_of_many_connections_it_writes_one(cli: Cli, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(MANY)
    ended = await cli("check", settings={"DATABASE_URL": database_url})
    assert "ok    outbox: nothing is held" in ended.stdout
    assert query(database_url, WRITTEN_TOGETHER) == [(1,), (49,)]
