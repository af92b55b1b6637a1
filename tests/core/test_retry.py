"""Backoff and circuit, with time passed in."""

import random

import pytest

from sync.core.retry import Backoff, CircuitBreaker

BACKOFF = Backoff(base_s=1.0, cap_s=60.0)


@pytest.mark.parametrize(("failures", "bound_s"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10_000, 60)])
def test_pauses_are_drawn_below_a_bound_that_doubles(failures: int, bound_s: float) -> None:
    pauses = [BACKOFF.pause_s(failures, random.Random(seed)) for seed in range(200)]
    assert 0 <= min(pauses) < bound_s * 0.1
    assert bound_s * 0.9 < max(pauses) <= bound_s


def test_a_pause_that_bounds_how_often_something_is_asked_is_not_drawn_near_zero() -> None:
    seldom = Backoff(base_s=1.0, cap_s=8.0, least=0.5)
    pauses = [seldom.pause_s(10, random.Random(seed)) for seed in range(200)]
    assert 4.0 <= min(pauses) < 5.0
    assert 7.0 < max(pauses) <= 8.0


class Always(random.Random):
    """Draws the upper bound, so that pauses are known."""

    def uniform(self, a: float, b: float) -> float:
        return b


def opened(now_s: float) -> CircuitBreaker:
    circuit = CircuitBreaker(BACKOFF, Always(), threshold=3)
    for _ in range(3):
        assert circuit.wait_s(now_s) == 0
        circuit.failed(now_s)
    return circuit


def test_a_circuit_opens_after_repeated_failures() -> None:
    circuit = opened(100.0)
    assert circuit.is_open
    assert circuit.wait_s(100.0) == 1.0
    assert circuit.wait_s(100.75) == 0.25


def test_a_success_between_keeps_it_closed() -> None:
    circuit = CircuitBreaker(BACKOFF, Always(), threshold=3)
    for _ in range(10):
        circuit.failed(0.0)
        circuit.failed(0.0)
        circuit.succeeded()
    assert not circuit.is_open


def test_an_open_circuit_lets_one_probe_through_at_a_time() -> None:
    circuit = opened(100.0)
    assert circuit.wait_s(101.0) == 0
    circuit.begun()
    assert circuit.wait_s(101.0) > 0


def test_a_failed_probe_opens_it_for_longer() -> None:
    circuit = opened(100.0)
    circuit.begun()
    circuit.failed(101.0)
    assert circuit.wait_s(101.0) == 2.0


def test_a_call_that_began_long_ago_does_not_end_the_pause_behind_a_later_one() -> None:
    circuit = opened(100.0)
    circuit.failed(40.0)
    assert circuit.wait_s(100.0) == 1.0


def test_a_probe_that_succeeds_closes_it() -> None:
    circuit = opened(100.0)
    circuit.begun()
    circuit.succeeded()
    assert [circuit.wait_s(101.0), circuit.wait_s(101.0)] == [0, 0]


def test_a_probe_that_tells_nothing_makes_room_for_another() -> None:
    circuit = opened(100.0)
    circuit.begun()
    circuit.abandoned()
    assert circuit.wait_s(101.0) == 0
