"""Whoever waits for a session costs next to nothing meanwhile, and is told when there is none."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from greenlet import greenlet  # type: ignore[import-untyped]  # it has no types
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.core.errors import DatabaseUnavailable
from sync.postgres import engine as engines
from sync.postgres.engine import in_transaction, make_engine, transaction
from sync.postgres.places import asked_by

SESSIONS = 2
WAITING = 50


@pytest.fixture
async def few(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of two sessions."""
    async with opened(database_url, SESSIONS) as engine:
        yield engine


@asynccontextmanager
async def opened(database_url: str, sessions: int) -> AsyncIterator[AsyncEngine]:
    """An engine of so many."""
    engine = make_engine(database_url, sessions)
    try:
        yield engine
    finally:
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


async def test_who_has_a_session_waits_for_those_who_have_none(database_url: str) -> None:
    """A hotel with much to do has asked first, and many times."""
    order = list[str]()

    async def ask(engine: AsyncEngine, name: str) -> None:
        async with transaction(asked_by(engine, name)):
            order.append(name)

    async with opened(database_url, 2) as engine, AsyncExitStack() as held:
        _ = await held.enter_async_context(transaction(asked_by(engine, "busy")))
        async with transaction(asked_by(engine, "third")):
            asking = [asyncio.create_task(ask(engine, name)) for name in ["busy", "busy", "quiet", "other"]]
            await asyncio.sleep(0)
        await asyncio.gather(*asking[2:])
        assert order == ["quiet", "other"]
        await held.aclose()
        await asyncio.gather(*asking)
    assert order == ["quiet", "other", "busy", "busy"]


@pytest.mark.parametrize(("sessions", "most"), [(1, 1), (2, 1), (3, 2), (4, 2), (9, 5)])
async def test_nobody_has_more_than_half_of_the_sessions(database_url: str, sessions: int, most: int) -> None:
    async with opened(database_url, sessions) as engine, AsyncExitStack() as held:
        for _ in range(most):
            _ = await held.enter_async_context(transaction(asked_by(engine, "busy")))
        more = asyncio.create_task(in_transaction(asked_by(engine, "busy"), _ask))
        if most < sessions:
            assert await in_transaction(asked_by(engine, "quiet"), _ask) == 1
        assert not more.done()
        await held.aclose()
        assert await more == 1


async def test_the_last_session_is_for_who_has_none(database_url: str) -> None:
    """So it is when several have much to do, none of them more than half."""
    async with opened(database_url, 4) as engine, AsyncExitStack() as held:
        for name in ["busy", "busy", "another"]:
            _ = await held.enter_async_context(transaction(asked_by(engine, name)))
        more = asyncio.create_task(in_transaction(asked_by(engine, "another"), _ask))
        assert await in_transaction(asked_by(engine, "quiet"), _ask) == 1
        assert not more.done()
        await held.aclose()
        assert await more == 1


async def test_who_has_no_name_waits_for_no_share(few: AsyncEngine) -> None:
    """Who looks for all, as a process's heartbeats."""
    async with transaction(few), transaction(few):
        pass


async def test_who_gives_up_in_the_moment_that_it_is_given_a_session_leaves_it_to_others(database_url: str) -> None:
    async with opened(database_url, 1) as engine:
        async with transaction(asked_by(engine, "first")):
            gives_up = asyncio.create_task(in_transaction(asked_by(engine, "second"), _ask))
            await asyncio.sleep(0)
        gives_up.cancel()  # it has been let in, and has not gone on yet
        await asyncio.gather(gives_up, return_exceptions=True)
        assert await in_transaction(asked_by(engine, "second"), _ask) == 1
