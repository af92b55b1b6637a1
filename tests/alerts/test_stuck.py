"""Which connections count as such that get nowhere although nothing fails."""

from random import Random

from sync.alerts.conditions import LASTS_S
from sync.alerts.start import stuck
from sync.core.cron import Cron
from sync.service import app
from sync.service.at_work import Intervals
from sync.service.progress import Progress
from sync.service.schedule import Schedule
from tests.alerts.helpers import Time, alerting, told
from tests.support.at_work import at_work
from tests.support.mirror import Mirror
from tests.support.receiver import Receiver

LATE_S, A_DAY_S = 180.0, 86_400.0


async def test_one_that_is_begun_long_after_its_process_has_its_time(mirror: Mirror) -> None:
    """As one that is added, or taken over from a replica that died with a thousand others."""
    time = Time()
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    jobs.progress = Progress(time)
    time.now_s = A_DAY_S  # it waited for its turn to begin
    async with at_work(Schedule(Cron("0 3 * * *"), Random(1), Intervals(60, 600, 5)), jobs):
        assert stuck([jobs], LATE_S) == []
        time.now_s += LATE_S + 1
        assert stuck([jobs], LATE_S) == ["default"]


async def test_a_replica_that_does_not_work_for_it_says_nothing_of_its_end(mirror: Mirror, receiver: Receiver) -> None:
    time = Time()
    own = mirror.database_url, receiver, time, lambda: ["default"] * (time.now_s < 10 * LASTS_S)
    await mirror.beat(app.make_jobs(mirror.connection, mirror.settings()))
    async with alerting(*own) as owner, alerting(*own[:3], connections=list) as other:
        for time.now_s in range(0, 10 * int(LASTS_S), 10):
            await owner.look()
            await other.look()
        assert told(receiver) == [("raised", "no_progress")]
        for time.now_s in (10 * LASTS_S, 11 * LASTS_S):
            await other.look()
            await owner.look()
    assert told(receiver) == [("raised", "no_progress"), ("ended", "no_progress")]


async def test_of_one_whose_replica_died_another_says_that_it_is_over(mirror: Mirror, receiver: Receiver) -> None:
    time = Time()
    await mirror.beat(app.make_jobs(mirror.connection, mirror.settings()))
    async with alerting(mirror.database_url, receiver, time, lambda: ["default"]) as owner:
        for time.now_s in (0, LASTS_S):
            await owner.look()
    await mirror.execute("UPDATE sync.daemons SET heartbeat_at = now() - interval '1 hour'")
    async with alerting(mirror.database_url, receiver, time, connections=list) as other:
        for time.now_s in (2 * LASTS_S, 3 * LASTS_S):
            await other.look()
    assert told(receiver) == [("raised", "no_progress"), ("ended", "no_progress")]
