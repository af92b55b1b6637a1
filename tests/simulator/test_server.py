"""The server as a process sees it: outages, shutdown, latency, concurrency."""

import asyncio
from typing import Any

import httpx
import pytest

from sync.demo.simulator import Hang, Operation
from tests.simulator.helpers import Rig


async def test_the_api_can_go_away_and_come_back_on_the_same_port() -> None:
    rig = Rig()
    async with rig.http:
        async with rig.simulator.serve() as rig.address:
            assert (await rig.write("A")).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await rig.read()
        port = int(rig.address.rpartition(":")[2])
        async with rig.simulator.serve(port=port) as address:
            assert address == rig.address
            assert await rig.values() == ["A"]
    assert len(rig.simulator.requests) == 2


@pytest.mark.timeout(5)
async def test_shutdown_does_not_wait_for_hanging_answers() -> None:
    rig = Rig()
    arrived = asyncio.Event()

    async def note(_: object) -> None:
        arrived.set()

    rig.simulator.on_answer = note
    rig.simulator.faults.script(Operation.GET_CODES, Hang())
    async with rig.http:
        async with rig.simulator.serve() as rig.address:
            read = asyncio.create_task(rig.read())
            await arrived.wait()
        with pytest.raises(httpx.TransportError):
            await read


async def test_every_call_takes_the_latency(rig: Rig) -> None:
    rig.simulator.latency_s = 0.08
    await rig.read()
    await rig.read(count=0)
    assert rig.time.slept_s == [0.08, 0.08]


async def test_connections_are_kept_alive(rig: Rig) -> None:
    ports = set()
    for _ in range(3):
        answer = await rig.read()
        ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(ports) == 1


async def test_calls_overlap(rig: Rig) -> None:
    both = asyncio.Barrier(2)

    async def meet(_: Operation, __: Any) -> None:
        await both.wait()

    rig.simulator.on_request = meet
    answers = await asyncio.gather(rig.write("A"), rig.write("B"))
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_only_the_latest_requests_are_kept_if_so_asked() -> None:
    rig = Rig()
    rig.simulator = rig.new_simulator(max_records=2)
    async with rig.simulator.serve() as rig.address, rig.http:
        for _ in range(5):
            await rig.read()
    assert [record.number for record in rig.simulator.requests] == [4, 5]
