"""An API that fails is left alone but for one probe at a time, and why is said meanwhile."""

import asyncio
from functools import partial

import pytest

from sync.core import api_errors
from sync.core.retry import Backoff
from sync.demo.simulator import Close, Status
from sync.mews.client_settings import RetryPolicy
from sync.mews.operations import ENTERPRISES, ENTERPRISES_GET_ALL, limitation
from sync.mews.rate_limiter import AUDIT_SHARE, Priority
from tests.mews.helpers import ONCE, Gate, StopWatch, fail, opened, read, script, turns
from tests.support.mirror import Mirror


async def test_after_five_failures_the_server_is_left_alone_until_a_probe_succeeds(api: Mirror) -> None:
    watch = StopWatch()
    script(api, Status(500), times=6)
    retry_policy = RetryPolicy(max_attempts=1, circuit_backoff=Backoff(base_s=60, cap_s=60))
    async with opened(api, clock=watch, retry_policy=retry_policy) as client:
        for _ in range(5):
            assert isinstance(await fail(client), api_errors.ServerError)
        error = await fail(client)
        assert isinstance(error, api_errors.CircuitOpen)
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 60
        assert "the API failed (500)" in str(error)
        assert len(api.simulator.requests) == 5

        watch.now_s += error.retry_after_s
        assert isinstance(await fail(client), api_errors.ServerError)
        assert isinstance(await fail(client), api_errors.CircuitOpen)
        assert len(api.simulator.requests) == 6

        watch.now_s += 60
        for _ in range(3):
            assert await read(client) == ["Hotel A"]
        assert len(api.simulator.requests) == 9


async def test_only_one_probe_goes_at_a_time(api: Mirror) -> None:
    watch = StopWatch()
    script(api, Close(), times=5)
    async with opened(api, clock=watch, retry_policy=ONCE) as client:
        for _ in range(5):
            await fail(client)
        watch.now_s += 60
        gate = Gate(api)
        probe = asyncio.create_task(read(client))
        await gate.arrived.wait()
        for _ in range(3):
            assert isinstance(await fail(client), api_errors.CircuitOpen)
        gate.open.set()
        assert await probe == ["Hotel A"]
        assert await read(client) == ["Hotel A"]


async def test_a_cancelled_probe_lets_another_go(api: Mirror) -> None:
    watch = StopWatch()
    script(api, Close(), times=5)
    async with opened(api, clock=watch, retry_policy=ONCE) as client:
        for _ in range(5):
            await fail(client)
        watch.now_s += 60
        gate = Gate(api)
        probe = asyncio.create_task(read(client))
        await gate.arrived.wait()
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        gate.open.set()
        assert await read(client) == ["Hotel A"]


async def test_a_read_that_waits_for_its_place_is_no_probe(api: Mirror) -> None:
    watch = StopWatch()
    script(api, Close(), times=5)
    async with opened(api, clock=watch, retry_policy=ONCE, budget_requests=AUDIT_SHARE) as client:
        names = partial(client.read, ENTERPRISES_GET_ALL, limitation(10, None), ENTERPRISES.decode)
        for priority in (Priority.AUDIT, *[Priority.PULL] * 3, Priority.AUDIT):
            with pytest.raises(api_errors.ConnectionLost):
                await names(priority=priority)
            watch.now_s += 15.0
        # Its share of the budget is spent for 15 s more.
        waiting = asyncio.create_task(names(priority=Priority.AUDIT))
        await turns(10)
        assert not client.is_waiting
        assert await read(client) == ["Hotel A"]
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_read_that_waited_for_its_place_while_others_failed_is_not_sent(api: Mirror) -> None:
    script(api, Close(), times=6)
    patient = RetryPolicy(max_attempts=1, circuit_backoff=Backoff(base_s=60, cap_s=60))
    async with opened(api, retry_policy=patient, budget_requests=5, budget_window_s=0.2) as client:
        errors = await asyncio.gather(*(fail(client) for _ in range(6)))
    assert [type(one) for one in errors] == [*[api_errors.ConnectionLost] * 5, api_errors.CircuitOpen]
    assert len(api.simulator.requests) == 5


@pytest.mark.parametrize("status", [400, 408])
async def test_calls_that_the_api_refuses_open_no_circuit(api: Mirror, status: int) -> None:
    script(api, *[Status(500)] * 4, Status(status), times=3)
    async with opened(api, retry_policy=ONCE) as client:
        for _ in range(15):
            await fail(client)
        assert await read(client) == ["Hotel A"]
    assert len(api.simulator.requests) == 16


async def test_why_it_cannot_be_reached_is_said_while_it_is_not_tried_too(api: Mirror) -> None:
    async with opened(
        api, address="http://127.0.0.1:1", retry_policy=RetryPolicy(max_attempts=6, max_pause_s=0.0)
    ) as client:
        shown = [str(await fail(client)) for _ in range(6)]
    assert "not tried" in shown[-1]
    assert "not tried" not in shown[0]
    reason = shown[0].rpartition(": ")[2]
    assert shown[-1].endswith(reason)
