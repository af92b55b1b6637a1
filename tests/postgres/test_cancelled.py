"""Whoever is cancelled in a transaction, wherever that is, leaves no session behind."""

import asyncio
import gc
from collections.abc import Coroutine, Generator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.postgres.engine import make_engine, transaction


class CancelledAt:
    """Awaits a coroutine, and cancels the task at the await of this number: as it begins, or (`late`) as it ends."""

    def __init__(self, work: Coroutine[Any, Any, None], number: int, *, late: bool) -> None:
        self.awaits = 0
        self._work = work
        self._number = number
        self._is_late = late

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        steps, error = self._work.__await__(), None
        while True:
            try:
                waited_for = steps.throw(error) if error else next(steps)
            except StopIteration:
                return
            if self.awaits == self._number:
                if self._is_late and waited_for is not None:
                    waited_for.add_done_callback(lambda _: task.cancel())
                else:
                    task.cancel()
            self.awaits, error = self.awaits + 1, None
            try:
                yield waited_for
            except BaseException as thrown:  # noqa: BLE001 - it is the work's to handle
                error = thrown


async def ask_twice(engine: AsyncEngine) -> None:
    async with transaction(engine) as tx:
        for _ in range(2):
            await tx.execute(text("SELECT 1"))


async def awaits_of(database_url: str, number: int, *, late: bool, connected: bool) -> int:
    """How many awaits there were, with this one cancelled."""
    engine = make_engine(database_url, 1)
    if connected:
        await ask_twice(engine)
    work = CancelledAt(ask_twice(engine), number, late=late)
    with suppress(asyncio.CancelledError):
        await asyncio.create_task(_run(work))
    # There is one session, and it can be had.
    await ask_twice(engine)
    await engine.dispose()
    return work.awaits


async def _run(work: CancelledAt) -> None:
    await work


@pytest.mark.parametrize("late", [False, True], ids=["as it begins", "as it ends"])
@pytest.mark.parametrize("connected", [False, True], ids=["connecting", "connected"])
async def test_a_transaction_that_is_cancelled_at_any_await(database_url: str, late: bool, connected: bool) -> None:
    count = await awaits_of(database_url, -1, late=late, connected=connected)
    assert count >= 5
    for number in range(count):
        await awaits_of(database_url, number, late=late, connected=connected)
    # What was left open would warn now, and a warning is an error.
    gc.collect()
