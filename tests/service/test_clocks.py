"""No step of this machine's wall clock moves a job that runs by an interval."""

import asyncio
import math
from datetime import timedelta
from random import Random

import pytest

from sync.core.cron import Cron
from sync.demo.simulator import Operation
from sync.service import app
from sync.service.at_work import Intervals
from sync.service.schedule import Schedule
from sync.service.timetable import JITTER, Kind, Timetable
from sync.service.triggers import LOOK_S, STEP, CronTrigger, DueTrigger
from tests.service.test_schedule import SUNDAY
from tests.support.at_work import at_work
from tests.support.mirror import Mirror
from tests.support.wall_clock import DAY, HOUR, STEPS, WallClock

OFTEN = Intervals(pull_s=0.2, discovery_s=3600, push_poll_s=0.2)
PATIENCE_S = 30
RUNS = 3


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


@pytest.mark.long
@pytest.mark.parametrize("step", STEPS, ids=str)
async def test_pulls_go_on_whatever_the_wall_clock_does(
    database_url: str, monkeypatch: pytest.MonkeyPatch, step: timedelta
) -> None:
    mirror, wall_clock = Mirror(database_url), WallClock(monkeypatch)
    mirror.add_codes(mirror.add_voucher(), ["A"])
    async with mirror.opened():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        schedule = Schedule(jobs.audit.cron, Random(1), OFTEN)
        with schedule.running():
            async with at_work(schedule, jobs), asyncio.timeout(PATIENCE_S):
                await jobs.has_pulled.wait()
                for _ in range(2):
                    wall_clock.step(step)
                    await pulled_again(mirror)


class Runs:
    """A job and a timetable for it, whose clock stands until it is moved."""

    def __init__(self) -> None:
        self.now_s, self.count = 1000.0, 0
        self.timetable = Timetable(Random(1), lambda: None, lambda: self.now_s)

    async def __call__(self) -> None:
        self.count += 1

    async def counted_after(self, seconds: float) -> int:
        """How often it has run by then."""
        self.now_s += seconds
        await self.timetable.tick()
        for _ in range(3):
            await asyncio.sleep(0)
        return self.count


async def test_a_job_runs_at_its_interval_and_once_for_all_that_it_missed() -> None:
    runs = Runs()
    runs.timetable.every(60, runs)
    waits_s = (0, 60 * (1 - JITTER) - 1, 60 * 2 * JITTER + 1, 3600)
    assert [await runs.counted_after(wait_s) for wait_s in waits_s] == [1, 1, 2, 3]
    assert 60 * (1 - JITTER) <= runs.timetable.wait_s() <= 60 * (1 + JITTER)


async def test_a_tick_ends_also_where_an_interval_is_shorter_than_the_clock_can_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs, rng = Runs(), Random(1)
    once = iter([1.0])  # what came again in the same tick would do so for ever
    monkeypatch.setattr(rng, "uniform", lambda *_: next(once))
    runs.timetable = Timetable(rng, lambda: None, lambda: runs.now_s)
    runs.timetable.every(1e-300, runs)
    assert await runs.counted_after(0) == 1


async def test_a_run_is_hastened_and_never_put_off() -> None:
    runs = Runs()
    entry = runs.timetable.every(60, runs)
    assert await runs.counted_after(0) == 1
    runs.timetable.hasten(entry, 3600)
    assert await runs.counted_after(60 * (1 + JITTER)) == 2
    runs.timetable.hasten(entry, 2)
    assert await runs.counted_after(2) == 3
    assert await runs.counted_after(50) == 3, "what it was planned for before does not come beside"


async def test_what_may_not_ask_is_left_out_and_made_up_for() -> None:
    runs, may_ask = Runs(), False
    entry = runs.timetable.enter(Kind(60, Runs.__call__, asks=lambda _: may_ask), runs)
    assert await runs.counted_after(0) == 0
    may_ask = True
    runs.timetable.make_up([entry], spread_s=1)
    assert await runs.counted_after(1) == 1
    runs.timetable.make_up([entry], spread_s=1)
    assert await runs.counted_after(1) == 1


async def test_what_is_in_vain_for_now_is_tried_again_once_it_is_made_up_for() -> None:
    runs = Runs()
    entry = runs.timetable.enter(Kind(60, Runs.__call__, lambda _: math.inf), runs)
    assert await runs.counted_after(0) == 1
    assert await runs.counted_after(50) == 1
    runs.timetable.make_up([entry], spread_s=1)
    assert await runs.counted_after(0) == 2


async def test_what_is_made_up_for_before_its_cancelled_run_has_ended_comes_behind_that() -> None:
    """As after a moment in which it was not known who owns a connection: a run takes a while to end."""
    runs, may_end = Runs(), asyncio.Event()

    async def run() -> None:
        await runs()
        try:
            await asyncio.sleep(math.inf)
        finally:
            await may_end.wait()

    entry = runs.timetable.every(60, run)
    assert await runs.counted_after(0) == 1
    runs.timetable.cancel([entry])
    runs.timetable.make_up([entry], spread_s=1)
    assert await runs.counted_after(1) == 1
    may_end.set()
    assert await runs.counted_after(0) == 1, "it ends first"
    assert await runs.counted_after(0) == 2
    may_end.clear()
    runs.timetable.remove([entry])
    runs.timetable.cancel([entry])
    may_end.set()


async def test_what_was_removed_runs_no_more() -> None:
    runs = Runs()
    entry = runs.timetable.every(60, runs)
    runs.timetable.remove([entry])
    runs.timetable.hasten(entry, 0)
    assert await runs.counted_after(120) == 0


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_what_is_due_is_planned_by_what_is_left_whatever_the_wall_clock_shows(step: timedelta) -> None:
    runs = Runs()
    trigger = DueTrigger(runs.timetable)
    runs.timetable.every(60, runs, first_s=0.5)
    assert trigger.planned(SUNDAY + step, SUNDAY) == SUNDAY + step + timedelta(seconds=0.5)
    runs.now_s -= 30
    assert trigger.planned(SUNDAY + step, SUNDAY) == SUNDAY + step + timedelta(seconds=LOOK_S)


def test_crons_next_time_comes_when_the_wall_clock_that_was_put_back_shows_it() -> None:
    trigger = CronTrigger(Cron("0 3 * * *"))
    planned = trigger.get_next_fire_time(SUNDAY, SUNDAY)
    assert trigger.planned(SUNDAY - DAY - HOUR, planned) == SUNDAY - DAY
    assert trigger.planned(SUNDAY + HOUR, planned) == planned
    assert trigger.planned(SUNDAY - STEP / 2, planned) == planned, "corrected by seconds, it would come twice"
