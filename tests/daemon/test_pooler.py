"""Behind a pooler of transactions no notification arrives; the daemon mirrors and pushes all the same."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from tests.support.daemon import PATIENCE_S, running
from tests.support.mirror import Mirror
from tests.support.pooler import needs_pgbouncer, pooled

QUEUE = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', %s, 'NEW')"
STATUS = "SELECT status FROM mews.voucher_code_outbox"
COUNT = "SELECT count(*) FROM mews.voucher_codes"


@pytest.mark.long
@needs_pgbouncer
async def test_the_daemon_works_behind_a_pooler_with_two_sessions(database_url: str, tmp_path: Path) -> None:
    with pooled(database_url, pool_size=2) as url:
        mirror = Mirror(url)
        voucher = mirror.add_voucher()
        mirror.add_codes(voucher, [f"CODE-{number}" for number in range(1500)])
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as user:
            async with mirror.served(), running(mirror, tmp_path, SYNC_PUSH_POLL_S="0.2") as daemon:
                async with asyncio.timeout(PATIENCE_S):
                    while await (await user.execute(COUNT)).fetchone() != (1500,):
                        pass
                    await user.execute(QUEUE, [voucher.id])
                    while await (await user.execute(STATUS)).fetchone() != ("done",):
                        pass
                assert daemon.count("failing") == 0
