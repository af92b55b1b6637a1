"""Connections of a replica begin a few at a time, and whoever is to stop waits for no start."""

from collections.abc import AsyncIterator
from functools import partial

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
    await turns(10)


async def test_the_next_begins_as_soon_as_one_has_pulled(all_jobs: list[Jobs]) -> None:
    queue, begun = StartQueue(at_once=1), list[Jobs]()
    for jobs in all_jobs:
        queue.enter(jobs, partial(begun.append, jobs))
    for number in range(1, 3):
        assert (begun, list(queue.waiting)) == (all_jobs[:number], all_jobs[number:])
        begun[-1].has_pulled.set()
        await turns(10)
    assert (begun, list(queue.waiting)) == (all_jobs, [])


async def test_of_many_32_have_begun_before_the_first_has_pulled(mirror: Mirror) -> None:
    queue, begun = StartQueue(), list[Jobs]()
    made = [app.make_jobs(mirror.connection, mirror.settings()) for _ in range(40)]
    for jobs in made:
        queue.enter(jobs, partial(begun.append, jobs))
    assert begun == made[:32]
    for jobs in made:
        jobs.has_pulled.set()
    await turns(10)
    assert begun == made


async def test_who_leaves_before_its_start_never_begins_and_takes_no_place(all_jobs: list[Jobs]) -> None:
    queue, (first, second, third), begun = StartQueue(at_once=1), all_jobs, list[Jobs]()
    for jobs in all_jobs:
        queue.enter(jobs, partial(begun.append, jobs))
    await queue.leave(second)
    assert (begun, list(queue.waiting)) == ([first], [third])
    await queue.leave(first)
    assert (begun, list(queue.waiting)) == ([first, third], [])


async def test_what_is_behind_its_pull_comes_as_soon_as_it_has_pulled(all_jobs: list[Jobs]) -> None:
    queue, told, (first, second, _) = StartQueue(at_once=1), list[str](), all_jobs
    queue.enter(first, partial(told.append, "first begins"), partial(told.append, "first goes on"))
    queue.enter(second, partial(told.append, "second begins"), partial(told.append, "second goes on"))
    await turns(10)
    assert told == ["first begins"]
    first.has_pulled.set()
    await turns(10)
    assert told == ["first begins", "first goes on", "second begins"]
