"""Once the service stops, nothing is sent, and nothing waits."""

import asyncio

import pytest

from sync.core import errors
from sync.demo.simulator import Status
from tests.mews.helpers import PATIENT, Gate, opened, read, script, turns
from tests.support.mirror import Mirror


async def test_once_it_stops_nothing_is_sent(api: Mirror) -> None:
    api.stop.set()
    async with opened(api) as client:
        with pytest.raises(errors.Stopped):
            await read(client)
    assert len(api.simulator.requests) == 0


async def test_stopping_ends_the_pause_before_another_try(api: Mirror) -> None:
    script(api, Status(500))
    async with opened(api, retry_policy=PATIENT) as client:
        reading = asyncio.create_task(read(client))
        while not client.server_clock.now():  # until the failure has come
            await turns(1)
        api.stop.set()
        with pytest.raises(errors.Stopped):
            await reading
    assert len(api.simulator.requests) == 1


async def test_stopping_ends_the_wait_for_the_budget(api: Mirror) -> None:
    async with opened(api, budget_requests=1, budget_window_s=1000) as client:
        await read(client)
        waiting = [asyncio.create_task(read(client)) for _ in range(3)]
        await turns(3)
        api.stop.set()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [errors.Stopped] * 3
    assert len(api.simulator.requests) == 1


async def test_what_is_in_flight_goes_on(api: Mirror) -> None:
    gate = Gate(api)
    async with opened(api) as client:
        reading = asyncio.create_task(read(client))
        await gate.arrived.wait()
        api.stop.set()
        gate.open.set()
        assert await reading == ["Hotel A"]
