"""A step of the database's clock is told from the time that passes."""

from datetime import UTC, datetime, timedelta

import pytest

from sync.outbox.database_clock import STEP_S, DatabaseClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
WITHIN = timedelta(seconds=15)


@pytest.mark.parametrize("step_s", [-86_400, -STEP_S, -1.9, 0, 1.9, STEP_S, 3600])
def test_a_step_counts_for_so_long_and_what_a_slow_answer_makes_does_not(step_s: float) -> None:
    now_s = 100.0
    clock = DatabaseClock(lambda: now_s)
    assert not clock.was_stepped(NOON, WITHIN)
    now_s += 60
    is_step = abs(step_s) >= STEP_S
    at = NOON + timedelta(seconds=60 + step_s)
    assert clock.was_stepped(at, WITHIN) is is_step
    for passed_s in (14.9, 15.1):
        now_s = 160 + passed_s
        assert clock.was_stepped(at + timedelta(seconds=passed_s), WITHIN) is (is_step and passed_s < 15)
