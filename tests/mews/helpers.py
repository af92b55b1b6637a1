"""A client of the simulated API over real HTTP, without a database."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from typing import Any

import pytest
from aiohttp import web

from sync.core import api_errors
from sync.core.retry import Backoff
from sync.demo.simulator import Fault, Operation
from sync.mews.client import Client
from sync.mews.client_settings import ClientSettings, Credentials, RetryPolicy
from sync.mews.operations import ENTERPRISES, ENTERPRISES_GET_ALL, limitation
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, IMPATIENT, Mirror

ONCE = RetryPolicy(max_attempts=1)
PATIENT = RetryPolicy(backoff=Backoff(base_s=1000, cap_s=1000), max_pause_s=1000)
"""Pauses for so long that no test would see their end."""
LONG_S = 10.0
"""The time of a read that none of these waits for, but for a tenth of it."""
MAX_BYTES = 1_000_000
HOW = {one.name for one in fields(ClientSettings)}
CREDENTIALS = Credentials("http://127.0.0.1", CLIENT_TOKEN, ACCESS_TOKEN, "test")


class StopWatch:
    """A clock that a test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def client_settings(retry_policy: RetryPolicy, others: Mapping[str, Any]) -> ClientSettings:
    """How a client calls without a budget to speak of, but for what `others` say."""
    usual = {
        "budget_requests": 1_000_000,
        "budget_window_s": 30.0,
        "read_timeout_s": 30.0,
        "max_response_bytes": MAX_BYTES,
    }
    return ClientSettings(**(usual | {"retry_policy": retry_policy} | dict(others)))


@asynccontextmanager
async def opened(api: Mirror, *, address: str = "", **options: Any) -> AsyncIterator[Client]:
    """A client of the API with its tokens and no budget to speak of."""
    usual: dict[str, Any] = {"clock": time.monotonic, "rng": random.Random(1), "stop": api.stop}
    settings = client_settings(IMPATIENT, {name: options.pop(name) for name in HOW & options.keys()})
    client = Client(replace(CREDENTIALS, platform_address=address or api.address), settings, **(usual | options))
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def served(status: int, headers: dict[str, str], body: bytes = b"") -> AsyncIterator[str]:
    """Another server, which gives everybody the same answer."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers=headers, body=body)

    other = web.Application()
    other.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(other, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def read(client: Client) -> list[str]:
    """The names of the enterprises, by one call."""
    page = await client.read(ENTERPRISES_GET_ALL, limitation(10, None), ENTERPRISES.decode)
    return [enterprise.name for enterprise in page.records]


async def fail(client: Client) -> api_errors.ApiError:
    """The error of a call that must fail."""
    with pytest.raises(api_errors.ApiError) as raised:
        await read(client)
    return raised.value


async def turns(count: int) -> None:
    """Lets the event loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


def script(api: Mirror, *faults: Fault | None, times: int = 1) -> None:
    api.simulator.faults.script(None, *faults, times=times)


class Gate:
    """Lets every request wait for `open` before it is answered; `arrived` is set by the first."""

    def __init__(self, api: Mirror) -> None:
        self.arrived, self.open = asyncio.Event(), asyncio.Event()
        api.simulator.on_request = self._wait

    async def _wait(self, _operation: Operation, _body: Any) -> None:
        self.arrived.set()
        await self.open.wait()
