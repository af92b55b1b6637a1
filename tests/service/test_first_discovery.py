"""A hotel that is new: what it is told to be, and what is read of it first."""

import asyncio
from random import Random

import pytest

from sync.service import app
from sync.service.at_work import Intervals
from sync.service.schedule import Schedule
from tests.support.daemon import PATIENCE_S
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE
from tests.support.statements import statements


@pytest.mark.parametrize(("pulls_first", "pulls"), [(False, 1), (True, 2)])
async def test_what_the_first_discovery_finds_is_read_at_once_and_nothing_is_caught_up_with_before(
    mirror: Mirror, pulls_first: bool, pulls: int
) -> None:
    """However long others keep it from discovering, as where thousands of hotels begin."""
    mirror.add_codes(mirror.add_voucher(), ["A", "B"])
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    schedule = Schedule(jobs.audit.cron, Random(0), Intervals(3600, 3600, 3600))
    while not schedule.slots.discoveries.locked():
        await schedule.slots.discoveries.acquire()
    with schedule.running():
        schedule.begin(jobs, pulls_first=pulls_first)
        async with asyncio.timeout(PATIENCE_S):
            await (jobs.has_pulled.wait() if pulls_first else jobs.outbox.idle())
            await jobs.idle()
            assert jobs.take_caught_up() is None
            schedule.slots.discoveries.release()
            await jobs.cycle_completed.wait()
        await schedule.end(jobs)
    assert jobs.health.runs["pull", False] == pulls
    assert (await mirror.compare()).is_equal


async def test_a_hotel_that_its_outbox_had_pulled_before_its_first_discovery_is_pulled_on(mirror: Mirror) -> None:
    """That discovery finds nothing new then, and would leave the hotel as it is until a restart."""
    mirror.add_codes(mirror.add_voucher(), ["A", "B"])
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    await jobs.discover()
    schedule = Schedule(jobs.audit.cron, Random(0), Intervals(0.01, 3600, 3600))
    while not schedule.slots.discoveries.locked():
        await schedule.slots.discoveries.acquire()
    with schedule.running():
        schedule.begin(jobs, pulls_first=False)
        await jobs.pull()
        jobs.cycle_completed.clear()
        schedule.slots.discoveries.release()
        async with asyncio.timeout(PATIENCE_S):
            await jobs.cycle_completed.wait()
        await schedule.end(jobs)


async def test_of_a_hotel_that_is_taken_over_nothing_comes_before_its_pull(mirror: Mirror) -> None:
    """Where many are taken over at once, all that is done for each keeps the others' pulls waiting."""
    voucher = mirror.add_voucher()
    await mirror.discover()
    mirror.add_codes(voucher, ["A"], days_old=0)
    mirror.clock.advance(A_WHILE)
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    schedule = Schedule(jobs.audit.cron, Random(0), Intervals(3600, 3600, 3600))
    with schedule.running(), statements(mirror.connection.shared_engine) as said:
        schedule.begin(jobs, pulls_first=True)
        async with asyncio.timeout(PATIENCE_S):
            await jobs.has_pulled.wait()
        await schedule.end(jobs)
    assert (await mirror.compare()).is_equal
    assert not [one for one in said if "left(row.status, 7) = 'pending'" in one]
