"""A user's transaction that takes our rows in another order than we do: whoever gives way, both get through."""

import asyncio
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest

from sync.demo.simulator import Operation
from sync.service import app
from tests.support.database import blocked
from tests.support.flows import numbered
from tests.support.mirror import Mirror

CODES = "SELECT id FROM mews.voucher_codes ORDER BY id"
DELETE = "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id) VALUES ('delete', :id)"
LOCK_CODE = "SELECT FROM mews.voucher_codes WHERE id = %s FOR UPDATE"
LOCK_CHANGE = "SELECT FROM mews.voucher_code_outbox WHERE voucher_code_id = %s FOR UPDATE"

pytestmark = [
    pytest.mark.long,
    pytest.mark.parametrize("patience", ["1h", "10ms"], ids=["we give way", "the user gives way"]),
]


async def user_of(mirror: Mirror, patience: str) -> psycopg.AsyncConnection:
    """Somebody's session; whoever has the least patience looks for a circle first, and gives way."""
    user = await psycopg.AsyncConnection.connect(mirror.database_url)
    await user.execute(f"SET deadlock_timeout = '{patience}'".encode())
    return user


async def close_circle(
    mirror: Mirror, ours: asyncio.Task[object], user: psycopg.AsyncConnection, lock: str, id_: UUID
) -> bool:
    """Has the user want what we hold, once we wait for what he holds; whether it was he who gave way."""
    await blocked(mirror.connection.engine, ours)
    try:
        await user.execute(lock, [id_])
    except psycopg.errors.DeadlockDetected:
        return True
    finally:
        await user.rollback()
    return False


async def test_over_a_page_of_codes(mirror: Mirror, patience: str) -> None:
    codes = mirror.add_codes(mirror.add_voucher(), numbered(50))
    await mirror.once()
    ids = [row["id"] for row in await mirror.rows(CODES)]
    async with await user_of(mirror, patience) as user:
        await user.execute(LOCK_CODE, [ids[-1]])
        for code in codes:
            mirror.world.delete_code(code.id)
        mirror.clock.advance(timedelta(minutes=1))
        ours = asyncio.create_task(mirror.once())
        assert await close_circle(mirror, ours, user, LOCK_CODE, ids[0]) == (patience == "10ms")
        await ours
    assert (await mirror.compare()).is_equal


async def test_over_a_change_and_its_code(mirror: Mirror, patience: str) -> None:
    mirror.add_codes(mirror.add_voucher(), numbered(3))
    await mirror.once()
    code_id = (await mirror.rows(CODES))[0]["id"]
    async with await user_of(mirror, patience) as user:
        await user.execute(LOCK_CODE, [code_id])
        await mirror.execute(DELETE, id=code_id)
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        ours = asyncio.create_task(jobs.outbox.push_all())
        await close_circle(mirror, ours, user, LOCK_CHANGE, code_id)
        pushed = await ours
    assert (pushed.done, pushed.errors) == (1, {})
    assert len(mirror.requests(Operation.DELETE_CODES)) == 1
