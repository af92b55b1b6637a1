"""How often the API may be called."""

import asyncio

import pytest

from sync.core import api_errors
from sync.demo.simulator import RateLimit, RetryAfter, Status
from tests.mews.helpers import ONCE, fail, opened, read, script
from tests.outages.virtual_clock import run_in_virtual_time
from tests.support.mirror import Mirror


@pytest.mark.long
@pytest.mark.parametrize("retry_after", [RetryAfter(1, "seconds"), RetryAfter(0.2, "date")], ids=repr)
async def test_retry_after_holds_back_every_request_of_the_token(api: Mirror, retry_after: RetryAfter) -> None:
    script(api, Status(429, retry_after=retry_after))
    async with opened(api, retry_policy=ONCE) as client:
        error = await fail(client)
        assert isinstance(error, api_errors.RateLimited)
        assert error.retry_after_s is not None
        await asyncio.gather(*(read(client) for _ in range(5)))
    first, *others = api.simulator.requests
    assert min(one.arrived_s for one in others) >= first.arrived_s + retry_after.asked_s
    assert api.simulator.violations == []


async def test_a_long_retry_after_is_left_to_the_caller(api: Mirror) -> None:
    script(api, Status(429, retry_after=RetryAfter(31)))
    async with opened(api) as client:
        assert (await fail(client)).retry_after_s == 31
    assert len(api.simulator.requests) == 1


def test_no_call_is_sent_beside_one_that_waits_for_the_budget() -> None:
    run_in_virtual_time(behind_a_silence())


async def behind_a_silence() -> None:
    api = Mirror("no database")
    async with api.served(), opened(api, clock=asyncio.get_running_loop().time, retry_policy=ONCE) as client:
        client.rate_limiter.be_silent(25.0)
        assert await read(client) == ["Hotel A"]
    assert len(api.simulator.requests) == 1


@pytest.mark.long
async def test_the_budget_draws_no_429_and_no_violation() -> None:
    api = Mirror("no database", rate_limit=RateLimit(requests=20, window_s=0.3), latency_s=0.01, grace_s=0.0)
    # On a machine that takes seconds for a call, another one would rightly be sent beside it.
    async with api.served(), opened(api, budget_requests=20, budget_window_s=0.3, read_timeout_s=10_000.0) as client:
        answers = await asyncio.gather(*(read(client) for _ in range(100)))
    assert answers == [["Hotel A"]] * 100
    assert [record.status for record in api.simulator.requests] == [200] * 100
    assert api.simulator.violations == []


@pytest.mark.long
async def test_a_client_without_the_budget_would_have_drawn_them() -> None:
    api = Mirror("no database", rate_limit=RateLimit(requests=20, window_s=30.0), grace_s=0.0)
    async with api.served(), opened(api, retry_policy=ONCE) as client:
        ends = await asyncio.gather(*(read(client) for _ in range(100)), return_exceptions=True)
    assert any(isinstance(end, api_errors.RateLimited) for end in ends)
    assert api.simulator.violations != []
