"""Connections of a replica begin a few at a time, and whoever is to stop waits for no start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from sync.service import app
from sync.service.jobs import Jobs
from sync.service.start_queue import StartQueue
from tests.mews.helpers import turns
from tests.support.mirror import Mirror


@pytest.fixture
async def all_jobs(mirror: Mirror) -> AsyncIterator[list[Jobs]]:
    """Three connections' jobs, of which none has pulled; all have in the end."""
    made = [app.make_jobs(mirror.connection, mirror.settings()) for _ in range(3)]
    yield made
    for jobs in made:
        jobs.has_pulled.set()


async def test_the_next_begins_as_soon_as_one_has_pulled(all_jobs: list[Jobs]) -> None:
    queue, (first, second, third), stop, begun = StartQueue(at_once=1), all_jobs, asyncio.Event(), list[Jobs]()

    async def begin(jobs: Jobs) -> None:
        async with queue.begun(jobs, stop) as may_begin:
            assert may_begin
            begun.append(jobs)
            await stop.wait()

    tasks = [asyncio.create_task(begin(jobs)) for jobs in all_jobs]
    await turns(10)
    assert (begun, queue.waiting) == ([first], [second, third])
    first.has_pulled.set()
    await turns(10)
    assert (begun, queue.waiting) == ([first, second], [third])
    second.has_pulled.set()
    await turns(10)
    stop.set()
    await asyncio.gather(*tasks)
    assert (begun, queue.waiting) == ([first, second, third], [])


async def test_who_is_stopped_before_its_start_hears_it_at_once_and_takes_no_place(all_jobs: list[Jobs]) -> None:
    queue, (first, second, third), stop = StartQueue(at_once=1), all_jobs, asyncio.Event()

    async def begins(jobs: Jobs, stopped_by: asyncio.Event) -> bool:
        async with queue.begun(jobs, stopped_by) as may_begin:
            return may_begin

    async with AsyncExitStack() as held:
        assert await held.enter_async_context(queue.begun(first, asyncio.Event()))
        waiting = asyncio.create_task(begins(second, stop))
        await turns(5)
        stop.set()
        assert not await waiting
        assert queue.waiting == []
    assert not await begins(second, stop), "a place is free, and is not for who is stopped"
    async with asyncio.timeout(10):
        assert await begins(third, asyncio.Event())
