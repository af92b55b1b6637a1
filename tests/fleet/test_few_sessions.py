"""A replica has no more sessions than its pool and the one that listens, however many hotels have much to do."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from tests.fleet.replicas import OPEN, served
from tests.support.daemon import PATIENCE_S

HOTELS, POOL = 12, 4
SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND application_name = 'voucher-sync'
"""


@pytest.mark.long
@pytest.mark.direct
async def test_many_hotels_that_are_pulled_and_sent_for_at_once_take_no_more_sessions(
    database_url: str, tmp_path: Path
) -> None:
    async with served(database_url, tmp_path, HOTELS) as fleet:
        settings = {"SYNC_DATABASE_POOL": str(POOL), "SYNC_PULL_INTERVAL_S": "1", "SYNC_LOG_LEVEL": "error"}
        session = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
        async with session, fleet.replica(**settings):
            await fleet.all_pulled()
            for name in fleet.vouchers:
                await asyncio.to_thread(fleet.queue, name, *(f"{name}-{number}" for number in range(5)))
            most = 0
            async with asyncio.timeout(2 * PATIENCE_S):
                while await (await session.execute(OPEN)).fetchone() != (0,):
                    (now,) = await (await session.execute(SESSIONS)).fetchone() or (0,)
                    most = max(most, now)
                    await session.execute("SELECT pg_sleep(0.02)")
        assert 0 < most <= POOL + 1
