"""What a campaign costs is told before it is queued."""

import pytest

from sync.outbox.bulk.forecast import CallRate, Forecast, forecast

BUDGET = CallRate(requests=200, window_s=30, usual_per_minute=2)


@pytest.mark.parametrize(
    ("codes", "waiting", "calls", "waiting_calls"),
    [([1], [], 1, 0), ([1000], [], 1, 0), ([1001], [], 2, 0), ([1, 1, 2000], [5, 1500], 4, 3), ([], [], 0, 0)],
)
def test_hotels_and_operations_share_no_call(
    codes: list[int], waiting: list[int], calls: int, waiting_calls: int
) -> None:
    told = forecast(codes, waiting, BUDGET)
    assert (told.codes, told.calls, told.waiting_calls) == (sum(codes), calls, waiting_calls)


def cost(codes: int) -> Forecast:
    return forecast([codes], [], BUDGET)


def test_what_fits_in_the_budget_waits_for_nothing() -> None:
    told = cost(195_000)
    assert (told.busiest_calls, told.budget_share) == (195, 195 / 200)
    assert told.seconds < BUDGET.window_s
    assert cost(196_000).seconds >= BUDGET.window_s


def test_a_large_campaign_takes_what_was_measured() -> None:
    """README.md, *Measured*: 1,000,000 changes in 157 s, at 200 ms a call."""
    assert 157 * 0.9 < cost(1_000_000).seconds < 157 * 1.1
    assert cost(1_000_000).busiest_calls == 195


def test_the_multiple_is_of_the_usual_load_of_the_same_time() -> None:
    assert (cost(9_000).multiple, cost(0).multiple) == (10, 1)
