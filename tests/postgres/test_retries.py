"""A transaction that gave way to somebody else's is begun anew, as a whole, and not for ever."""

import asyncio

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.core.errors import DatabaseBusy
from sync.core.retry import Backoff
from sync.postgres import engine as module
from sync.postgres import session
from sync.postgres.engine import in_transaction
from sync.postgres.sqlstates import BUSY
from tests.support.database import blocked, execute, rows
from tests.support.postgres import database_of

FAIL = "DO $$ BEGIN RAISE EXCEPTION 'in its own words' USING ERRCODE = '{}'; END $$"


async def test_after_a_deadlock_with_a_user_both_get_through(engine: AsyncEngine, database_url: str) -> None:
    await execute(engine, "CREATE TABLE public.things AS SELECT 1 AS id, 0 AS ours, 0 AS theirs UNION SELECT 2, 0, 0")
    await execute(engine, f"ALTER DATABASE {database_of(database_url)} SET deadlock_timeout = '20ms'")
    await engine.dispose()
    waiting: list[asyncio.Task[object]] = []

    async with await psycopg.AsyncConnection.connect(database_url) as user:

        async def work(tx: AsyncConnection) -> None:
            await tx.execute(text("UPDATE public.things SET ours = ours + 1 WHERE id = 1"))
            if not waiting:
                theirs = asyncio.create_task(user.execute("UPDATE public.things SET theirs = 1 WHERE id = 1"))
                waiting.append(theirs)
                await blocked(engine, theirs)
            # Who closes the circle is the one that sees it, and gives way.
            await tx.execute(text("UPDATE public.things SET ours = ours + 1 WHERE id = 2"))

        await user.execute("SET deadlock_timeout = '1h'")
        await user.execute("UPDATE public.things SET theirs = 1 WHERE id = 2")
        ours = asyncio.create_task(in_transaction(engine, work))
        while not waiting:
            await rows(engine, "SELECT 1")
        await waiting[0]
        await user.commit()
        await ours
    assert [dict(row) for row in await rows(engine, "SELECT * FROM public.things ORDER BY id")] == [
        {"id": 1, "ours": 1, "theirs": 1},
        {"id": 2, "ours": 1, "theirs": 1},
    ]


@pytest.mark.parametrize("sqlstate", sorted(BUSY))
async def test_who_gives_way_for_ever_is_told_what_stands_in_the_way(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, sqlstate: str
) -> None:
    monkeypatch.setattr(module, "AGAIN_AFTER", Backoff(base_s=0.001, cap_s=0.001))
    runs = 0

    async def work(tx: AsyncConnection) -> None:
        nonlocal runs
        runs += 1
        await tx.execute(text(FAIL.format(sqlstate)))

    with pytest.raises(DatabaseBusy, match=f"{sqlstate}.*see pg_stat_activity"):
        await in_transaction(engine, work)
    assert runs == module.MAX_TRIES


async def test_a_lock_that_is_held_for_long_is_no_dead_server(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(session.SETTINGS, "lock_timeout", "'30ms'")
    monkeypatch.setattr(module, "AGAIN_FOR_S", 0.0)
    async with await psycopg.AsyncConnection.connect(database_url) as user:
        await user.execute("LOCK TABLE mews.voucher_codes")
        with pytest.raises(DatabaseBusy, match="55P03"):
            await in_transaction(engine, lambda tx: tx.execute(text("SELECT * FROM mews.voucher_codes")))
