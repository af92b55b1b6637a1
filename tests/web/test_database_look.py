"""One look serves all who ask, costs little of a session's time, and takes none that the jobs are using."""

import asyncio
from contextlib import AsyncExitStack
from traceback import walk_tb

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.core.errors import DatabaseError, DatabaseUnavailable
from sync.postgres.engine import POOL_SIZE, transaction
from sync.web.database_look import DatabaseLook
from tests.mews.helpers import StopWatch

NEVER = "SELECT pg_sleep(3600)"


class Count:
    """Counts how often it was looked."""

    def __init__(self) -> None:
        self.looks = 0

    async def __call__(self, tx: AsyncConnection) -> int:
        await tx.execute(text("SELECT 1"))
        self.looks += 1
        return self.looks


async def test_who_asks_within_its_time_gets_what_another_found(engine: AsyncEngine) -> None:
    look = DatabaseLook(engine, Count(), good_for_s=5, clock=(clock := StopWatch()))
    assert await asyncio.gather(*(look() for _ in range(10))) == [1] * 10
    clock.now_s += 5
    assert await look() == 2


async def test_a_look_that_took_long_is_good_for_longer(engine: AsyncEngine) -> None:
    clock, count = StopWatch(), Count()

    async def work(tx: AsyncConnection) -> int:
        clock.now_s += 1
        return await count(tx)

    look = DatabaseLook(engine, work, good_for_s=5, clock=clock)
    found = []
    for _ in range(41):
        found.append(await look())
        clock.now_s += 1
    assert found == [1] * 20 + [2] * 20 + [3]


async def test_while_every_session_is_at_work_what_was_found_last_is_told(engine: AsyncEngine) -> None:
    look = DatabaseLook(engine, Count(), good_for_s=0, clock=StopWatch())
    assert await look() == 1
    async with AsyncExitStack() as busy:
        for _ in range(POOL_SIZE):
            _ = await busy.enter_async_context(transaction(engine))
        assert await look() == 1
    assert await look() == 2


async def test_a_database_that_does_not_answer_is_given_up_and_the_session_with_it(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync.web.database_look.LOOK_S", 0.2)

    async def wait(tx: AsyncConnection) -> None:
        await tx.execute(text(NEVER))

    look = DatabaseLook(engine, wait, good_for_s=3600)
    for _ in range(2):  # the second time it is remembered
        with pytest.raises(DatabaseError):
            await look()
    async with transaction(engine) as tx:
        others = "SELECT count(*) FROM pg_stat_activity WHERE query = :query AND state = 'active'"
        assert (await tx.execute(text(others), {"query": NEVER})).scalar_one() == 0


async def test_what_failed_is_looked_at_again(engine: AsyncEngine) -> None:
    outcomes = [DatabaseUnavailable("away"), None]

    async def work(_tx: AsyncConnection) -> str:
        if error := outcomes.pop(0):
            raise error
        return "back"

    look = DatabaseLook(engine, work, good_for_s=0)
    with pytest.raises(DatabaseUnavailable):
        await look()
    assert await look() == "back"


async def test_however_many_are_told_why_it_fails_it_keeps_nothing_of_any_of_them(engine: AsyncEngine) -> None:
    async def fail(_tx: AsyncConnection) -> int:
        raise DatabaseUnavailable("away")

    look = DatabaseLook(engine, fail, good_for_s=5, clock=StopWatch())
    frames = set()
    for _ in range(10):
        with pytest.raises(DatabaseUnavailable) as raised:
            await look()
        frames.add(len(list(walk_tb(raised.value.__traceback__))))
    assert len(frames) == 1, frames
