"""The server as a process sees it: outages, shutdown, latency, concurrency."""

import asyncio
import socket
from contextlib import closing, suppress
from typing import Any

import httpx
import pytest

from sync.demo.simulator import Hang, Operation
from tests.simulator.helpers import Stage


async def test_the_api_can_go_away_and_come_back_on_the_same_port() -> None:
    stage = Stage()
    async with stage.http:
        async with stage.simulator.serve() as stage.address:
            assert (await stage.write("A")).status_code == 200
        with pytest.raises(httpx.ConnectError):
            await stage.read()
        port = int(stage.address.rpartition(":")[2])
        async with stage.simulator.serve(port=port) as address:
            assert address == stage.address
            assert await stage.values() == ["A"]
    assert len(stage.simulator.requests) == 2


@pytest.mark.parametrize("turns", range(4))
async def test_who_comes_as_it_goes_away_is_not_left_waiting(turns: int) -> None:
    async with Stage().simulator.serve() as address:
        client = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
        for _ in range(turns):
            await asyncio.sleep(0)
    with closing(client), suppress(ConnectionResetError):
        client.settimeout(10)
        assert await asyncio.to_thread(client.recv, 1) == b""


@pytest.mark.timeout(5)
async def test_shutdown_does_not_wait_for_hanging_answers() -> None:
    stage = Stage()
    arrived = asyncio.Event()

    async def note(_: object) -> None:
        arrived.set()

    stage.simulator.on_answer = note
    stage.simulator.faults.script(Operation.GET_CODES, Hang())
    async with stage.http:
        async with stage.simulator.serve() as stage.address:
            read = asyncio.create_task(stage.read())
            await arrived.wait()
        with pytest.raises(httpx.TransportError):
            await read


async def test_every_call_takes_the_latency(stage: Stage) -> None:
    stage.simulator.latency_s = 0.08
    await stage.read()
    await stage.read(count=0)
    assert stage.time.slept_s == [0.08, 0.08]


async def test_connections_are_kept_alive(stage: Stage) -> None:
    ports = set()
    for _ in range(3):
        answer = await stage.read()
        ports.add(answer.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(ports) == 1


async def test_calls_overlap(stage: Stage) -> None:
    both = asyncio.Barrier(2)

    async def meet(_: Operation, __: Any) -> None:
        await both.wait()

    stage.simulator.on_request = meet
    answers = await asyncio.gather(stage.write("A"), stage.write("B"))
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_only_the_latest_requests_are_kept_if_so_asked() -> None:
    stage = Stage()
    stage.simulator = stage.new_simulator(max_records=2)
    async with stage.simulator.serve() as stage.address, stage.http:
        for _ in range(5):
            await stage.read()
    assert [record.number for record in stage.simulator.requests] == [4, 5]
