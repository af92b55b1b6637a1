"""Whoever waits for a session costs next to nothing meanwhile, and is told when there is none."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from greenlet import greenlet  # type: ignore[import-untyped]  # it has no types
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.core.errors import DatabaseUnavailable
from sync.postgres import engine as engines
from sync.postgres.engine import in_transaction, make_engine, transaction

SESSIONS = 2
WAITING = 50


@pytest.fixture
async def few(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of two sessions."""
    engine = make_engine(database_url, SESSIONS)
    yield engine
    await engine.dispose()


async def _ask(tx: AsyncConnection) -> int:
    return int((await tx.execute(select(1))).scalar_one())


def _stacks() -> int:
    """How many stacks there are beside those of threads."""
    return sum(isinstance(one, greenlet) and one.gr_frame is not None for one in gc.get_objects())


async def test_who_waits_for_a_session_has_no_stack_of_its_own(few: AsyncEngine) -> None:
    async with AsyncExitStack() as held:
        for _ in range(SESSIONS):
            _ = await held.enter_async_context(transaction(few))
        waiting = [asyncio.create_task(in_transaction(few, _ask)) for _ in range(WAITING)]
        for _ in range(10):
            await asyncio.sleep(0)
        assert not any(one.done() for one in waiting)
        assert _stacks() == 0
    assert await asyncio.gather(*waiting) == [1] * WAITING


async def test_who_gives_up_leaves_its_place_to_others(few: AsyncEngine) -> None:
    async with AsyncExitStack() as held:
        for _ in range(SESSIONS):
            _ = await held.enter_async_context(transaction(few))
        gives_up, waits = (asyncio.create_task(in_transaction(few, _ask)) for _ in range(2))
        await asyncio.sleep(0)
        gives_up.cancel()
        await asyncio.gather(gives_up, return_exceptions=True)
    assert await waits == 1


async def test_that_no_session_came_free_is_told_with_what_to_do(
    few: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "POOL_TIMEOUT_S", 0.05)
    async with transaction(few), transaction(few):
        with pytest.raises(DatabaseUnavailable, match=r"busy for 0\.05 s: raise SYNC_DATABASE_POOL"):
            await in_transaction(few, _ask)
