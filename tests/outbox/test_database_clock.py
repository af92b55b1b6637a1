"""A step of the database's clock is told from the time that passes, and what it did before is never taken for even."""

from datetime import UTC, datetime, timedelta

import pytest

from sync.outbox.database_clock import STEP, DatabaseClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DELAY = timedelta(seconds=15)


class Watch:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_process_that_has_just_begun_waits_for_the_whole_time() -> None:
    watch = Watch()
    clock = DatabaseClock(watch)
    assert clock.wait_s(DELAY) == 15
    assert clock.observe(NOON) == timedelta()
    for passed_s in (0, 5, 15, 20):
        watch.now_s = Watch.now_s + passed_s
        assert clock.observe(NOON + timedelta(seconds=passed_s)) == timedelta()
        assert clock.wait_s(DELAY) == max(0, 15 - passed_s)


@pytest.mark.parametrize("step_s", [-86_400, -2, -1.9, 0, 1.9, 2, 3600])
def test_a_step_begins_the_wait_anew_and_what_a_slow_answer_makes_does_not(step_s: float) -> None:
    watch = Watch()
    clock = DatabaseClock(watch)
    clock.observe(NOON)
    watch.now_s += 60
    step = timedelta(seconds=step_s)
    is_step = abs(step) >= STEP
    assert clock.observe(NOON + timedelta(seconds=60) + step) == (step if is_step else timedelta())
    for passed_s in (0, 14, 15):
        watch.now_s = 160 + passed_s
        assert clock.wait_s(DELAY) == (15 - passed_s if is_step else 0)
        assert clock.observe(NOON + timedelta(seconds=60 + passed_s) + step) == timedelta()
