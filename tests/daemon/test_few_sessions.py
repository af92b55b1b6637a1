"""Three sessions are enough: two that work and one that listens. More than there are is waited for."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.core.errors import DatabaseFull
from sync.postgres.engine import in_transaction, make_engine, transaction
from sync.postgres.migrations import migrate
from sync.service import app
from tests.support.daemon import PATIENCE_S, running
from tests.support.hostile import new_owner
from tests.support.mirror import Mirror

pytestmark = pytest.mark.long

QUEUE = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', %s, 'NEW'), ('delete', %s, 'CODE-0')
"""
OPEN = "SELECT count(*) FROM mews.voucher_code_outbox WHERE status <> 'done'"


@pytest.fixture
def three_sessions(empty_database_url: str) -> Iterator[str]:
    """A migrated database for an owner who may have three sessions."""
    with new_owner(empty_database_url, "CONNECTION LIMIT 3") as url:
        migrate(url)
        yield url


@pytest.mark.parametrize("pool", ["2", "5"])
async def test_the_daemon_works_with_three(
    three_sessions: str, empty_database_url: str, tmp_path: Path, pool: str
) -> None:
    mirror = Mirror(three_sessions)
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, [f"CODE-{number}" for number in range(2500)])
    async with await psycopg.AsyncConnection.connect(empty_database_url, autocommit=True) as admin:
        await admin.execute(QUEUE.encode(), [voucher.id] * 2)
        async with mirror.served(), running(mirror, tmp_path, SYNC_DATABASE_POOL=pool) as daemon:
            await daemon.event("listening")
            async with asyncio.timeout(PATIENCE_S):
                while await (await admin.execute(OPEN)).fetchone() != (0,):
                    pass
            assert daemon.count("failing") == 0
            assert daemon.process.returncode is None


async def test_no_job_holds_one_session_while_it_asks_for_another(database_url: str) -> None:
    mirror = Mirror(database_url)
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, [f"CODE-{number}" for number in range(3000)])
    async with mirror.opened(sync_database_pool=2):
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        async with asyncio.timeout(PATIENCE_S):
            await jobs.discover()
            await jobs.pull()
            await mirror.execute(QUEUE.replace("%s", f"'{voucher.id}'"))
            await mirror.execute("DELETE FROM mews.voucher_codes WHERE value LIKE 'CODE-1%'")
            beats = [mirror.beat(jobs) for _ in range(3)]
            await asyncio.gather(
                jobs.pull(), jobs.audit.begin(), jobs.outbox.push_all(), jobs.discover(), jobs.prune(), *beats
            )
        assert jobs.health.errors == []


async def test_a_session_too_many_is_told_and_its_end_is_waited_for(three_sessions: str) -> None:
    async def work(tx: AsyncConnection) -> int:
        return len((await tx.execute(text("SELECT"))).all())

    engine = make_engine(three_sessions)
    others = [await psycopg.AsyncConnection.connect(three_sessions) for _ in range(3)]
    with pytest.raises(DatabaseFull, match=r"too many connections for role .*CONNECTION LIMIT.* SYNC_DATABASE_POOL=2"):
        async with transaction(engine):
            pass
    for other in others:
        await other.close()
    assert await in_transaction(engine, work) == 1  # the server counts a session for a moment longer than its client
    await engine.dispose()
