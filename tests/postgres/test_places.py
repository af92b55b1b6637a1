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
from sync.postgres.places import LATELY_S, LEAST_ROOM, PASSED_OVER_S, Places, asked_by
from tests.mews.helpers import turns
from tests.support.database import PATIENCE_S

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

    async with opened(database_url, 2) as engine, transaction(asked_by(engine, "busy")):
        async with transaction(asked_by(engine, "third")):
            asking = [asyncio.create_task(ask(engine, name)) for name in ["busy", "busy", "quiet", "other"]]
            await asyncio.sleep(0)
        await asyncio.gather(*asking)
    assert order == ["quiet", "other", "busy", "busy"]


class Askers:
    """Those who ask for one of some places; `now_s` is their clock."""

    def __init__(self, sessions: int) -> None:
        self.now_s = 0.0
        self.places = Places(sessions, lambda: self.now_s)

    async def had(self, name: str, for_s: float) -> None:
        """This one has had a place for so long until now."""
        await self.places.acquire(name)
        self.places.release(name, for_s)

    async def asks(self, name: str | None) -> "asyncio.Task[None]":
        """This one asks; done once it has a place."""
        asking = asyncio.create_task(self.places.acquire(name))
        await turns(2)
        return asking


async def given(*asking: "asyncio.Task[None]") -> None:
    """Waits until all of these have a place."""
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*asking)


@pytest.mark.parametrize(("sessions", "most"), [(1, 1), (2, 1), (4, 1), (5, 2), (9, 3)])
async def test_who_has_used_much_lately_has_a_quarter_of_the_sessions_together(sessions: int, most: int) -> None:
    askers = Askers(sessions)
    for name in ("busy", "another"):
        await askers.had(name, 10.0)
    for number in range(most):
        assert (await askers.asks("another" if number else "busy")).done()
    more = await askers.asks("another")
    assert not more.done()
    quiet = [await askers.asks(name) for name in ["quiet", None, "other", "one", "two", "three"][: sessions - most]]
    assert all(one.done() for one in quiet)
    askers.places.release("busy", 1.0)
    await given(more)


async def test_who_is_alone_has_all_of_the_sessions() -> None:
    askers = Askers(4)
    await askers.had("quiet", 0.01)
    await askers.had("busy", 100.0)
    asking = [await askers.asks("busy") for _ in range(4)]
    assert sum(one.done() for one in asking) == 1
    askers.now_s += LATELY_S
    askers.places.release("busy", 1.0)
    await given(*asking[:3])
    await turns(2)
    assert asking[3].done()


async def test_who_has_used_much_lately_is_behind_who_has_not() -> None:
    askers = Askers(1)
    await askers.had("busy", 10.0)
    first, busy, quiet = [await askers.asks(name) for name in ("first", "busy", "quiet")]
    assert (first.done(), busy.done(), quiet.done()) == (True, False, False)
    askers.places.release("first", 0.01)
    await given(quiet)
    assert not busy.done()
    askers.places.release("quiet", 0.01)
    await given(busy)


async def test_who_has_used_much_is_not_passed_over_for_ever() -> None:
    askers = Askers(1)
    await askers.had("busy", 100.0)
    first, busy = await askers.asks("first"), await askers.asks("busy")
    askers.now_s += PASSED_OVER_S
    quiet = await askers.asks("quiet")
    askers.places.release("first", 0.01)
    await given(first, busy)
    assert not quiet.done()
    askers.places.release("busy", 0.01)
    await given(quiet)


async def test_where_all_is_slow_who_does_little_is_not_behind() -> None:
    askers = Askers(1)
    for number in range(20):
        await askers.had(f"hotel-{number}", 1.0)
    first, second, quiet = [await askers.asks(name) for name in ("first", "hotel-0", "quiet")]
    askers.places.release("first", 0.01)
    await given(first, second)
    assert not quiet.done()
    askers.places.release("hotel-0", 0.01)
    await given(quiet)


@pytest.mark.parametrize(("passed_s", "is_behind"), [(0.0, True), (1.0, True), (20.0, False)])
async def test_what_was_used_long_ago_does_not_count(passed_s: float, is_behind: bool) -> None:
    askers = Askers(1)
    await askers.had("busy", 2.0)
    askers.now_s += passed_s
    _ = await askers.asks("first")
    busy, quiet = await askers.asks("busy"), await askers.asks("quiet")
    askers.places.release("first", 0.01)
    await turns(2)
    assert (busy.done(), quiet.done()) == (not is_behind, is_behind)
    askers.places.release("quiet" if is_behind else "busy", 0.01)
    await given(busy, quiet)


async def test_of_thousands_who_have_used_little_nothing_is_kept() -> None:
    askers = Askers(4)
    for number in range(LEAST_ROOM):
        await askers.had(f"hotel-{number}", 0.02)
    askers.now_s += 60.0
    await askers.had("busy", 10.0)
    assert askers.places.remembered == ["busy"]


async def test_who_gives_up_in_the_moment_that_it_is_given_a_session_leaves_it_to_others(database_url: str) -> None:
    async with opened(database_url, 1) as engine:
        async with transaction(asked_by(engine, "first")):
            gives_up = asyncio.create_task(in_transaction(asked_by(engine, "second"), _ask))
            await asyncio.sleep(0)
        gives_up.cancel()  # it has been let in, and has not gone on yet
        await asyncio.gather(gives_up, return_exceptions=True)
        assert await in_transaction(asked_by(engine, "second"), _ask) == 1
