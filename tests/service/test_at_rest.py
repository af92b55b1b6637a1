"""A hotel in which nothing happens takes next to no memory: a replica has thousands of them."""

import asyncio
import gc
import tracemalloc
from random import Random

from sync.mews.client import Credentials
from sync.mirror.windows import Watermark
from sync.service import app
from sync.service.jobs import Jobs
from sync.service.looks import make_looks
from sync.service.timetable import Timetable
from tests.support.mirror import Mirror

NUMBER = 50
AT_MOST = 13_000
"""Bytes of the jobs and the client of a hotel, before any has run."""


async def test_the_parts_of_a_hotel_take_next_to_no_memory(mirror: Mirror) -> None:
    settings, kept = mirror.settings(), list[Jobs]()
    given = [Credentials("client", f"{number:064}", "test") for number in range(NUMBER + 1)]
    async with app.open_workplace(settings, mirror.way, asyncio.Event()) as place:
        looks, daemon = make_looks(place.engine), app.describe_replica(place.process, settings)

        def make(one: Credentials) -> Jobs:
            connection = app.make_connection(place, one.access_token, mirror.address, one)
            return app.make_jobs(connection, settings, looks, daemon)

        kept.append(make(given[0]))  # and what all of them share
        gc.collect()
        tracemalloc.start()
        try:
            kept += [make(one) for one in given[1:]]
            gc.collect()
            taken, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert taken / NUMBER < AT_MOST


async def test_nothing_is_kept_of_a_run_that_has_ended() -> None:
    timetable, has_run = Timetable(Random(1), lambda: None), asyncio.Event()

    async def run() -> None:
        has_run.set()

    entry = timetable.every(3600.0, run)
    await timetable.tick()
    task = entry.task
    assert task is not None
    await task
    assert has_run.is_set()
    assert entry.task is None


async def test_what_a_quiet_pull_leaves_is_less_than_its_watermarks(mirror: Mirror) -> None:
    for _ in range(20):
        mirror.add_voucher()
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    await jobs.discover()
    await jobs.pull()
    await jobs.pull()
    gc.collect()
    assert not any(isinstance(one, Watermark) for one in gc.get_objects())
