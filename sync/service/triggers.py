"""When APScheduler fires what the service schedules: as cron would, and by a timetable that counts no wall time."""

from datetime import datetime, timedelta

from apscheduler.triggers.base import BaseTrigger

from sync.core.cron import Cron
from sync.service.timetable import Timetable

LOOK_S = 1.0
"""How often the plan is compared with the clocks: so long is the most that a step of the wall clock delays a job."""
STEP = timedelta(minutes=1)
"""A smaller step back is a correction: cron's time that has just come does not come once more."""


class CronTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires as cron would. APScheduler's own counts the days of the week from Monday, and wants both days to fit."""

    def __init__(self, cron: Cron) -> None:
        self._cron = cron

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """APScheduler's way to ask for it."""
        return self._cron.next_from(now) if previous_fire_time is None else self._cron.next_after(previous_fire_time)

    def planned(self, now: datetime, before: datetime) -> datetime:
        """When it fires next, planned `before`: sooner where the wall clock was put back since."""
        return min(before, self._cron.next_after(now + STEP))


class DueTrigger(BaseTrigger):  # type: ignore[misc]  # APScheduler has no types
    """Fires when the next of a timetable is due, and every `LOOK_S`: whether it does shows that the process lives.

    APScheduler's own triggers add to the wall time of the last run: put back by a day, they would fire after a day.
    """

    def __init__(self, timetable: Timetable) -> None:
        self._timetable = timetable

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """APScheduler's way to ask for it, before what it fires has taken what is due."""
        return now + timedelta(seconds=LOOK_S)

    def planned(self, now: datetime, before: datetime) -> datetime:
        """The instant that the wall clock will show when something is due; `before` counts for nothing."""
        return now + timedelta(seconds=min(LOOK_S, self._timetable.wait_s()))
