"""Which connections count as such that get nowhere although nothing fails."""

from random import Random

from sync.alerts.start import stuck
from sync.core.cron import Cron
from sync.service import app
from sync.service.at_work import Intervals
from sync.service.progress import Progress
from sync.service.schedule import Schedule
from tests.alerts.helpers import Time
from tests.support.at_work import at_work
from tests.support.mirror import Mirror

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
