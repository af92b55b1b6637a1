"""A hotel in which nothing happens takes next to no memory: a replica has thousands of them."""

import asyncio
import gc
import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import pytest

import sync
from sync.core.cron import Cron
from sync.mews.client_settings import Credentials
from sync.mirror.windows import Watermark
from sync.service import app
from sync.service.at_work import Intervals
from sync.service.jobs import Jobs
from sync.service.looks import Looks, make_looks
from sync.service.schedule import Schedule
from sync.service.start_queue import StartQueue
from sync.service.timetable import Timetable
from sync.signals import Signal
from tests.support.daemon import PATIENCE_S
from tests.support.mirror import CLIENT_TOKEN, Mirror

NUMBER = 50
AT_WORK = 10
AT_MOST = 7_500
"""Bytes of the jobs and the client of a hotel, before any has run: 6,200."""
AT_MOST_AT_WORK = 12_000
"""The same of one that is at work, and at rest: 9,800."""


@pytest.mark.long
async def test_the_parts_of_a_hotel_take_next_to_no_memory(mirror: Mirror) -> None:
    settings, kept = mirror.settings(), list[Jobs]()
    given = [Credentials(mirror.address, "client", f"{number:064}", "test") for number in range(NUMBER + 1)]
    async with app.open_workplace(settings, mirror.way, Signal()) as place:
        looks, shared = make_looks(place.engine), app.job_settings(settings)

        def make(one: Credentials) -> Jobs:
            connection = app.make_connection(place, one.access_token, one)
            return app.make_jobs(connection, settings, looks, shared)

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


class Hotels:
    """Hotels of a process as a replica works for them, each with its token and 20 vouchers."""

    def __init__(self, mirror: Mirror, place: app.Workplace, looks: Looks, schedule: Schedule) -> None:
        self._mirror, self._place, self._looks, self._schedule = mirror, place, looks, schedule
        self._shared = app.job_settings(place.settings)
        self._queue = StartQueue()
        self._begun: list[Jobs] = []

    def make(self, name: str) -> Jobs:
        """The jobs of one."""
        given = Credentials(self._mirror.address, CLIENT_TOKEN, name, "test")
        connection = app.make_connection(self._place, name, given)
        return app.make_jobs(connection, self._place.settings, self._looks, self._shared)

    async def begin(self, name: str) -> None:
        """Have one at work that has discovered and pulled, and is at rest."""
        world = self._mirror.world
        hotel = world.add_enterprise(name)
        world.add_token(name, name=name, enterprise_ids=[hotel.id])
        service = world.add_service(hotel.id, "Stay")
        for number in range(20):
            world.add_voucher(service.id, f"Voucher {number}", created_utc=world.now())
        jobs = self.make(name)
        self._begun.append(jobs)
        self._queue.enter(jobs, lambda: self._schedule.begin(jobs))
        async with asyncio.timeout(PATIENCE_S):
            await jobs.has_pulled.wait()
            await jobs.discover()  # behind that of its start
            await jobs.polls.look_up()
            await jobs.pull()
            await jobs.idle()
            assert not jobs.is_to_be_polled(await jobs.polls.look(anew=True))

    async def end(self) -> None:
        """Have all end."""
        self._mirror.stop.set()
        for jobs in self._begun:
            await self._schedule.end(jobs)
            await self._queue.leave(jobs)


@pytest.mark.long
async def test_a_hotel_at_rest_has_no_task_keeps_none_that_has_ended_and_takes_next_to_no_memory(
    mirror: Mirror,
) -> None:
    settings = mirror.settings()
    async with app.open_workplace(settings, mirror.way, mirror.stop) as place:
        hourly = Intervals(pull_s=3600, discovery_s=3600, push_poll_s=3600)
        schedule = Schedule(Cron(settings.sync_audit_cron), Random(1), hourly)
        hotels = Hotels(mirror, place, make_looks(place.engine), schedule)
        with schedule.running():
            await hotels.begin("first")  # and what all of them share
            for number in range(NUMBER):  # by the first of a class the interpreter learns how much room others need
                hotels.make(f"unused {number}")
            tracemalloc.start()
            try:
                before = _tasks()
                for number in range(AT_WORK):
                    await hotels.begin(f"hotel {number}")
                staying = await _staying(_tasks() - before)
                ended, taken = _ended_tasks(), _taken()
            finally:
                tracemalloc.stop()
            await hotels.end()

    assert not staying
    assert ended < AT_WORK
    assert taken / AT_WORK < AT_MOST_AT_WORK


def _tasks() -> set[asyncio.Task[Any]]:
    """Those under way of the service, without the simulator's."""
    codes = {one: getattr(one.get_coro(), "cr_code", None) for one in asyncio.all_tasks()}
    service = Path(sync.__file__).parent / "service"
    return {one for one, code in codes.items() if code is not None and Path(code.co_filename).is_relative_to(service)}


async def _staying(tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Those that do not end, as one does in which a timetable does a job just now."""
    return (await asyncio.wait(tasks, timeout=PATIENCE_S))[1] if tasks else set()


def _ended_tasks() -> int:
    gc.collect()
    return sum(isinstance(one, asyncio.Task) and one.done() for one in gc.get_objects())


def _taken() -> int:
    """Bytes that the service holds, without the simulator that is in the same process here."""
    of_service = [
        tracemalloc.Filter(inclusive, str(Path(sync.__file__).parent / part / "*"))
        for inclusive, part in ((True, ""), (False, "demo"))
    ]
    return sum(one.size for one in tracemalloc.take_snapshot().filter_traces(of_service).statistics("filename"))


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


@pytest.mark.long
async def test_what_a_quiet_pull_leaves_is_less_than_its_watermarks(mirror: Mirror) -> None:
    for _ in range(20):
        mirror.add_voucher()
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    await jobs.discover()
    await jobs.pull()
    await jobs.pull()
    gc.collect()
    assert not any(isinstance(one, Watermark) for one in gc.get_objects())
