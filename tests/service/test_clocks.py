"""No step of this machine's wall clock moves a job that runs by an interval."""

import asyncio
from datetime import timedelta
from random import Random

import pytest

from sync.core.cron import Cron
from sync.demo.simulator import Operation
from sync.service import app
from sync.service.schedule import JITTER, STEP, CronTrigger, Intervals, IntervalTrigger, run_until_stopped
from tests.outages.helpers import until
from tests.service.test_schedule import SUNDAY
from tests.support.mirror import Mirror
from tests.support.wall_clock import DAY, HOUR, STEPS, WallClock

OFTEN = Intervals(pull_s=0.2, discovery_s=3600, heartbeat_s=0.2, push_poll_s=0.2)
PATIENCE_S = 30
RUNS = 3


async def heard_again(mirror: Mirror) -> None:
    """Waits until the daemon has reported some times more."""
    for _ in range(RUNS):
        (row,) = await mirror.rows("SELECT heartbeat_at::text FROM sync.connections")
        await until(mirror, f"(SELECT heartbeat_at <> '{row['heartbeat_at']}' FROM sync.connections)")


async def pulled_again(mirror: Mirror) -> None:
    """Waits until the daemon has asked the API some times more."""
    left, is_asked = RUNS, asyncio.Event()

    async def on_request(operation: Operation, _body: object) -> None:
        nonlocal left
        left -= operation is Operation.GET_CODES
        if left <= 0:
            is_asked.set()

    mirror.simulator.on_request = on_request
    await is_asked.wait()


@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_pulls_and_heartbeats_go_on_whatever_the_wall_clock_does(
    database_url: str, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    mirror, wall_clock = Mirror(database_url), WallClock(monkeypatch)
    mirror.add_codes(mirror.add_voucher(), ["A"])
    async with mirror.opened():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        running = asyncio.create_task(run_until_stopped(jobs, OFTEN, mirror.stop))
        try:
            async with asyncio.timeout(PATIENCE_S):
                await until(mirror, "EXISTS (SELECT FROM sync.connections WHERE heartbeat_at IS NOT NULL)")
                for _ in range(2):
                    wall_clock.step(step)
                    await asyncio.gather(heard_again(mirror), pulled_again(mirror))
        finally:
            mirror.stop.set()
            await running


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_an_interval_is_planned_by_what_is_left_of_it_whatever_the_wall_clock_shows(step: timedelta) -> None:
    now_s = 1000.0
    trigger = IntervalTrigger(60, Random(1), lambda: now_s)
    planned = trigger.get_next_fire_time(None, SUNDAY)
    assert abs((planned - SUNDAY).total_seconds() - 60) <= 60 * JITTER
    now_s += 20
    moved = trigger.planned(SUNDAY + step, planned)
    assert moved - (SUNDAY + step) == planned - SUNDAY - timedelta(seconds=20)
    now_s += 3600
    assert trigger.planned(SUNDAY + step, planned) == SUNDAY + step


def test_a_run_is_hastened_and_never_put_off() -> None:
    trigger = IntervalTrigger(60, Random(1), lambda: 0.0)
    planned = trigger.get_next_fire_time(None, SUNDAY)
    trigger.hasten(3600)
    assert trigger.planned(SUNDAY, planned) == planned
    trigger.hasten(2)
    assert trigger.planned(SUNDAY, planned) == SUNDAY + timedelta(seconds=2)


def test_crons_next_time_comes_when_the_wall_clock_that_was_put_back_shows_it() -> None:
    trigger = CronTrigger(Cron("0 3 * * *"))
    planned = trigger.get_next_fire_time(SUNDAY, SUNDAY)
    assert trigger.planned(SUNDAY - DAY - HOUR, planned) == SUNDAY - DAY
    assert trigger.planned(SUNDAY + HOUR, planned) == planned
    assert trigger.planned(SUNDAY - STEP / 2, planned) == planned, "corrected by seconds, it would come twice"
