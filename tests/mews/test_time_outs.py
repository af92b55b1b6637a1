"""How long a call may take, and what is sent beside one that hangs."""

import asyncio
import random
from asyncio import CancelledError
from typing import Any

import psutil
import pytest

from sync.core import api_errors
from sync.demo.simulator import Close, Drip, Fault, Hang, Operation
from sync.mews.client import LEAST_SILENCE_S, MAX_CONNECTIONS
from sync.mews.transport import first_outcome
from tests.mews.helpers import LONG_S, ONCE, fail, opened, read, script, turns
from tests.outages.virtual_clock import run_in_virtual_time
from tests.support.mirror import Mirror

HOURS_S = 10_000.0
"""Longer than any machine stands still: in virtual time, the next call is sent for nothing else than time."""
MORE_THAN_ARE_SENT = 30
"""Beside one that hangs, another is sent after each tenth of its time."""


@pytest.mark.long
@pytest.mark.parametrize("is_known", [False, True], ids=["first call", "after a good answer"])
async def test_a_read_that_hangs_is_sent_once_more(api: Mirror, is_known: bool) -> None:
    async with opened(api, read_timeout_s=LONG_S, retry_policy=ONCE) as client:
        if is_known:
            await read(client)
        script(api, Hang(), Hang())
        assert await read(client) == ["Hotel A"]
    assert len(api.simulator.requests) == 3 + is_known


@pytest.mark.long
async def test_so_is_a_read_behind_one_that_failed(api: Mirror) -> None:
    async with opened(api, read_timeout_s=LONG_S, retry_policy=ONCE) as client:
        await read(client)
        script(api, Close(), Hang())
        await fail(client)
        assert await read(client) == ["Hotel A"]


def test_an_answer_that_comes_late_is_taken_and_every_call_beside_it_holds_a_place() -> None:
    run_in_virtual_time(late_answer())


async def late_answer() -> None:
    """The first of three calls is answered when the third one has come; time leaps, so that no fourth is sent."""
    api, arrived, third_is_here, is_over = Mirror("no database"), 0, asyncio.Event(), asyncio.Event()

    async def on_request(_operation: Operation, _body: Any) -> None:
        nonlocal arrived
        arrived += 1
        if arrived == 3:
            third_is_here.set()
        await (third_is_here if arrived == 1 else is_over).wait()

    api.simulator.on_request = on_request
    async with api.served(), opened(api, read_timeout_s=HOURS_S, retry_policy=ONCE) as client:
        assert await read(client) == ["Hotel A"]
        assert (client.rate_limiter.spent(), arrived) == (3, 3)
        is_over.set()


def test_of_many_reads_that_hang_one_at_a_time_is_sent_once_more() -> None:
    run_in_virtual_time(many_reads())


async def many_reads() -> None:
    hanging, api = 8, Mirror("no database")
    async with api.served(), opened(api, read_timeout_s=LONG_S, retry_policy=ONCE) as client:
        await read(client)
        script(api, *[Hang()] * (hanging + 3))
        began_s = asyncio.get_running_loop().time()
        assert await asyncio.gather(*(read(client) for _ in range(hanging))) == [["Hotel A"]] * hanging
        # Those of three that hang one after the other; all at once they would be over after the first of them.
        assert asyncio.get_running_loop().time() - began_s >= 4 * LEAST_SILENCE_S
    assert len(api.simulator.requests) == 1 + hanging + hanging + 3


@pytest.mark.parametrize("fault", [Hang(), Drip(HOURS_S / 10)], ids=repr)
def test_the_time_out_is_for_the_whole_answer(fault: Fault) -> None:
    run_in_virtual_time(time_out(fault))


async def time_out(fault: Fault) -> None:
    api = Mirror("no database")
    async with api.served(), opened(api, read_timeout_s=HOURS_S, retry_policy=ONCE) as client:
        await read(client)
        script(api, fault, times=MORE_THAN_ARE_SENT)
        error = await fail(client)
        assert type(error) is api_errors.ConnectionLost
        assert f"{HOURS_S:g} s" in str(error)
        api.simulator.faults.stop()
        assert await read(client) == ["Hotel A"]


@pytest.mark.long
async def test_a_read_is_tried_again_after_a_time_out(api: Mirror) -> None:
    # Less than a call may take before another is sent beside it.
    async with opened(api, read_timeout_s=0.9 * LEAST_SILENCE_S) as client:
        await read(client)
        script(api, Hang())
        assert await read(client) == ["Hotel A"]
    assert len(api.simulator.requests) == 3


@pytest.mark.long
async def test_it_survives_cancelled_reads(api: Mirror) -> None:
    rng, cancelled = random.Random(2), 0
    async with opened(api) as client:
        while cancelled < 250:
            reads = [asyncio.create_task(read(client)) for _ in range(3 * MAX_CONNECTIONS)]
            for one in rng.sample(reads, len(reads)):
                await turns(rng.randrange(8))
                one.cancel()
            ends = await asyncio.gather(*reads, return_exceptions=True)
            cancelled += sum(isinstance(end, CancelledError) for end in ends)
        assert await asyncio.gather(*(read(client) for _ in range(100))) == [["Hotel A"]] * 100
        open_sockets = [
            one for one in psutil.Process().net_connections("tcp") if one.raddr and one.raddr.port == api.port
        ]
        assert len(open_sockets) <= MAX_CONNECTIONS


@pytest.mark.parametrize("answered", [0, 1])
async def test_of_two_calls_that_end_at_once_the_answer_counts(answered: int) -> None:
    ending = asyncio.Event()

    async def call(number: int) -> str:
        await ending.wait()
        if number != answered:
            raise api_errors.ConnectionLost("enterprises/getAll")
        return "answer"

    for _ in range(20):  # which one a set holds first is chance
        calls = [asyncio.create_task(call(number)) for number in range(2)]
        outcome = asyncio.create_task(first_outcome(calls))
        await turns(2)
        ending.set()
        assert await outcome == "answer"
        await asyncio.gather(*calls, return_exceptions=True)
        ending.clear()


async def test_of_two_calls_that_fail_at_once_the_earlier_counts() -> None:
    async def call(error: api_errors.ApiError) -> str:
        raise error

    first, second = api_errors.ServerError("enterprises/getAll"), api_errors.ConnectionLost("enterprises/getAll")
    with pytest.raises(api_errors.ServerError):
        await first_outcome([asyncio.create_task(call(one)) for one in (first, second)])
