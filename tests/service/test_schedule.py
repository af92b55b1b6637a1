"""When the scheduler fires what cron's fields ask for, and what is due at once."""

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from sync.core.cron import Cron
from sync.service import schedule as module
from sync.service import triggers
from sync.service.at_work import Intervals
from sync.service.schedule import Schedule
from sync.service.timetable import Kind
from sync.service.triggers import CronTrigger
from tests.support.daemon import PATIENCE_S

SUNDAY = datetime(2026, 11, 29, 3, tzinfo=UTC)


@pytest.mark.parametrize("now", [SUNDAY, SUNDAY - timedelta(days=6), SUNDAY - timedelta(seconds=1)])
def test_the_first_time_is_the_first_from_now_on(now: datetime) -> None:
    assert CronTrigger(Cron("0 3 * * 0")).get_next_fire_time(None, now) == SUNDAY


@pytest.mark.parametrize("late", [timedelta(0), timedelta(hours=3), timedelta(days=20), timedelta(hours=-1)])
def test_the_next_time_follows_the_last_whatever_the_clock_does(late: timedelta) -> None:
    """Late as after a suspended machine: the scheduler runs once for all that it has missed."""
    following = CronTrigger(Cron("0 3 * * 0")).get_next_fire_time(SUNDAY, SUNDAY + late)
    assert following == SUNDAY + timedelta(days=7)


async def test_what_comes_to_be_due_while_others_are_begun_is_begun_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """APScheduler runs no job while the one before has not ended for it, and leaves it out."""
    for looks in (triggers, module):
        monkeypatch.setattr(looks, "LOOK_S", 3600.0)
    schedule = Schedule(Cron("0 3 * * 0"), Random(0), Intervals(3600, 3600, 3600))
    begun = asyncio.Event()

    async def begin(of: int) -> None:
        if of == 10:
            begun.set()

    def enter_next(of: int) -> bool:
        if of < 10:
            schedule.timetable.enter(Kind(3600, begin, asks=enter_next), of + 1)
        return True

    with schedule.running():
        enter_next(0)
        async with asyncio.timeout(PATIENCE_S):
            await begun.wait()
