"""The changes of many connections are counted each by an index, whatever the database takes for likely."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.postgres.engine import transaction
from sync.service.status import backlog

QUEUED = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, status, connection, next_attempt_at, finished_at,
  attempt_id, uncertain_because, held_because, attempts)
SELECT 'add', %(voucher)s, 'V-' || n, %(status)s, 'hotel-0', now(), CASE WHEN %(status)s = 'failed' THEN now() END,
  CASE WHEN %(status)s = 'uncertain' THEN gen_random_uuid() END,
  CASE WHEN %(status)s = 'uncertain' THEN 'unknown' END,
  CASE WHEN %(status)s = 'held' THEN 'too_many_deletes' END, 1
FROM generate_series(1, 3000) AS n
"""
NAMES = [f"hotel-{number}" for number in range(20)]


@pytest.fixture
def sql(database_url: str) -> Iterator[psycopg.Connection]:
    """A session to write with past the outbox's triggers."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        yield connection


@pytest.mark.parametrize("status", ["pending", "held", "failed", "uncertain"])
async def test_what_one_connection_has_is_not_read_for_each_of_the_others(
    sql: psycopg.Connection, engine: AsyncEngine, status: str
) -> None:
    """By statistics of an outbox that is all one connection's, any other one's seems to be found at once in it."""
    sql.execute(QUEUED, {"voucher": uuid4(), "status": status})
    sql.execute("ANALYZE mews.voucher_code_outbox")
    async with transaction(engine) as tx:
        backlogs = await backlog.load_backlogs(tx, NAMES)
        read = text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relid = 'mews.voucher_code_outbox'::regclass")
        assert (await tx.execute(read)).scalar_one() <= 2  # of what is under way, whosever it is
    assert {name: one.outbox for name, one in backlogs.items() if one.outbox} == {"hotel-0": {status: 3000}}
