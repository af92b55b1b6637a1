"""Connections of a replica begin a few at a time, and whoever is to stop waits for no start."""

import asyncio
from collections.abc import AsyncIterator

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
        assert await queue.begin(jobs, stop)
        begun.append(jobs)
        await stop.wait()
        await queue.end(jobs)

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

    assert await queue.begin(first, asyncio.Event())
    waiting = asyncio.create_task(queue.begin(second, stop))
    await turns(5)
    stop.set()
    assert not await waiting
    assert queue.waiting == []
    await queue.end(first)
    assert not await queue.begin(second, stop), "a place is free, and is not for who is stopped"
    async with asyncio.timeout(10):
        assert await queue.begin(third, asyncio.Event())
    await queue.end(third)
