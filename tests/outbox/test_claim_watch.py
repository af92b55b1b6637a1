"""A claim is over when this process saw no sign of its life for as long as it is good for, by its own clock."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sync.outbox.claim_watch import ClaimWatch, SignOfLife
from tests.support.claims import ONE, OTHER, SECOND
from tests.support.instants import utc
from tests.support.queue import LEASE
from tests.support.wall_clock import STEPS

SIGN = SignOfLife(ONE, utc(2026, 1, 1), LEASE)


class Seconds:
    """A clock that only goes forward."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, time: timedelta) -> None:
        self.now_s += time.total_seconds()


def watch() -> tuple[ClaimWatch, Seconds]:
    clock = Seconds()
    return ClaimWatch(LEASE, clock), clock


def test_a_claim_is_over_a_lease_after_it_was_first_seen_however_old_its_instants_are() -> None:
    one, clock = watch()
    assert one.expired([SIGN]) == []
    clock.wait(LEASE - SECOND)
    assert one.expired([SIGN]) == []
    assert one.wait_s() == 1
    clock.wait(SECOND)
    assert one.expired([SIGN]) == [SIGN]
    assert one.wait_s() == 0


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_every_sign_of_life_begins_a_new_lease_whatever_instant_it_names(step: timedelta) -> None:
    one, clock = watch()
    one.expired([SIGN])
    clock.wait(LEASE)
    moved = replace(SIGN, until=SIGN.until + step)
    assert one.expired([moved]) == []
    clock.wait(LEASE)
    assert one.expired([moved]) == [moved]


def test_what_is_in_flight_here_is_never_over_and_what_it_left_open_is_at_once() -> None:
    one, clock = watch()
    with one.in_flight(ONE):
        one.expired([SIGN])
        clock.wait(100 * LEASE)
        assert one.expired([SIGN]) == []
    assert one.wait_s() == 0
    assert one.expired([SIGN]) == [SIGN]


def test_a_claim_with_a_longer_lease_than_ours_has_it_whole() -> None:
    one, clock = watch()
    longer = replace(SIGN, lease=2 * LEASE)
    one.expired([longer])
    clock.wait(LEASE)
    assert one.expired([longer]) == []
    clock.wait(LEASE)
    assert one.expired([longer]) == [longer]


def test_an_attempt_that_was_away_is_seen_anew() -> None:
    one, clock = watch()
    one.expired([SIGN, replace(SIGN, attempt_id=OTHER)])
    one.expired([])
    clock.wait(LEASE)
    assert one.expired([SIGN]) == []
