"""Every call is counted once, by how it ended."""

import asyncio

import pytest

from sync.demo.simulator import Close, Hang, Status
from sync.mews.operations import ENTERPRISES_GET_ALL as OPERATION
from tests.mews.helpers import LONG_S, ONCE, Gate, fail, opened, read, script
from tests.support.mirror import Mirror

NOWHERE = "http://127.0.0.1:1"


async def test_an_answer_counts_by_its_status_and_a_lack_of_one_by_its_kind(api: Mirror) -> None:
    async with opened(api, retry_policy=ONCE) as client:
        script(api, None, Status(503), Status(401), Close())
        await read(client)
        for _ in range(3):
            await fail(client)
        calls, durations = client.traffic.calls, client._transport._pool.durations_s[OPERATION]
    assert calls == {
        (OPERATION, "200"): 1, (OPERATION, "503"): 1, (OPERATION, "401"): 1, (OPERATION, "connection_lost"): 1,
    }  # fmt: skip
    assert (sum(durations.counts), durations.sum > 0) == (4, True)


async def test_nobody_there_and_no_answer_in_time_count_too(api: Mirror) -> None:
    async with opened(api, address=NOWHERE, retry_policy=ONCE) as client:
        await fail(client)
        assert client.traffic.calls == {(OPERATION, "not_connected"): 1}
    async with opened(api, read_timeout_s=0.01, retry_policy=ONCE) as client:
        script(api, Hang())
        await fail(client)
        assert client.traffic.calls == {(OPERATION, "timed_out"): 1}


async def test_a_call_that_is_given_up_counts_as_cancelled(api: Mirror) -> None:
    gate = Gate(api)
    async with opened(api, read_timeout_s=LONG_S, retry_policy=ONCE) as client:
        reading = asyncio.create_task(read(client))
        await gate.arrived.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert client.traffic.calls == {(OPERATION, "cancelled"): 1}
        gate.open.set()


async def test_each_retry_is_counted(api: Mirror) -> None:
    async with opened(api) as client:
        script(api, Status(503), Status(500))
        await read(client)
        assert client.traffic.retries == {OPERATION: 2}
        assert sum(client.traffic.calls.values()) == 3
