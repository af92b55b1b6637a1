"""When the scheduler fires what cron's fields ask for."""

from datetime import UTC, datetime, timedelta

import pytest

from sync.core.cron import Cron
from sync.service.triggers import CronTrigger

SUNDAY = datetime(2026, 11, 29, 3, tzinfo=UTC)


@pytest.mark.parametrize("now", [SUNDAY, SUNDAY - timedelta(days=6), SUNDAY - timedelta(seconds=1)])
def test_the_first_time_is_the_first_from_now_on(now: datetime) -> None:
    assert CronTrigger(Cron("0 3 * * 0")).get_next_fire_time(None, now) == SUNDAY


@pytest.mark.parametrize("late", [timedelta(0), timedelta(hours=3), timedelta(days=20), timedelta(hours=-1)])
def test_the_next_time_follows_the_last_whatever_the_clock_does(late: timedelta) -> None:
    """Late as after a suspended machine: the scheduler runs once for all that it has missed."""
    following = CronTrigger(Cron("0 3 * * 0")).get_next_fire_time(SUNDAY, SUNDAY + late)
    assert following == SUNDAY + timedelta(days=7)
