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
    clock.observe(NOON)
    for passed_s in (0, 5, 15, 20):
        watch.now_s = Watch.now_s + passed_s
        clock.observe(NOON + timedelta(seconds=passed_s))
        assert (clock.wait_s(DELAY), clock.went_back) == (max(0, 15 - passed_s), timedelta())


@pytest.mark.parametrize("step_s", [-86_400, -2, -1.9, 0, 1.9, 2, 3600])
def test_a_step_begins_the_wait_anew_and_what_a_slow_answer_makes_does_not(step_s: float) -> None:
    watch = Watch()
    clock = DatabaseClock(watch)
    clock.observe(NOON)
    watch.now_s += 60
    step = timedelta(seconds=step_s)
    is_step = abs(step) >= STEP
    clock.observe(NOON + timedelta(seconds=60) + step)
    assert clock.went_back == (max(timedelta(), -step) if is_step else timedelta())
    for passed_s in (0, 14, 15):
        watch.now_s = 160 + passed_s
        assert clock.wait_s(DELAY) == (15 - passed_s if is_step else 0)
        clock.observe(NOON + timedelta(seconds=60 + passed_s) + step)


def test_steps_back_add_up_and_one_forward_takes_from_them() -> None:
    clock = DatabaseClock(lambda: 0.0)
    seen = list[float]()
    for hour in (12, 11, 9, 10, 12, 15, 14):
        clock.observe(NOON.replace(hour=hour))
        seen.append(clock.went_back / timedelta(hours=1))
    assert seen == [0, 1, 3, 2, 0, 0, 1]


@pytest.mark.parametrize(("seen_s", "went_back_s"), [(None, 0), (-3600, 0), (0, 0), (5, 5), (3600, 3600)])
def test_what_others_saw_ahead_of_the_first_look_is_how_far_it_went_back(
    seen_s: float | None, went_back_s: float
) -> None:
    clock = DatabaseClock(lambda: 0.0)
    clock.observe(NOON, None if seen_s is None else NOON + timedelta(seconds=seen_s))
    assert (clock.went_back, clock.wait_s(DELAY)) == (timedelta(seconds=went_back_s), 15)
    clock.observe(NOON, NOON + timedelta(days=1))
    assert clock.went_back == timedelta(seconds=went_back_s)


def test_a_step_that_was_seen_while_rows_were_brought_forward_is_counted_still() -> None:
    clock = DatabaseClock(lambda: 0.0)
    clock.observe(NOON)
    clock.observe(NOON - timedelta(hours=1))
    by = clock.went_back
    clock.observe(NOON - timedelta(hours=3))
    clock.note_brought(by, {})
    assert clock.went_back == timedelta(hours=2)
