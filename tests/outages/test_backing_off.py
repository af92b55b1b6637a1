"""Hours of trying an API that is away, by the daemon's own patience: it is asked seldom, and found soon."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from sync.mews.client import Client, Credentials
from sync.mews.operations import ENTERPRISES, ENTERPRISES_GET_ALL, VOUCHER_CODES_ADD, limitation
from sync.model.errors import ApiError

from .leaping import run_leaping

OUTAGE_S = 3600.0
"""The longest pause is reached within a minute; from then on a minute is like the next."""
READERS = 8
SECONDS_PER_REQUEST = 4.0
"""On average at least so many lie between two; the budget alone would allow one in 0.15."""
FOUND_S = 10.0
"""Within so long of its return the API is found: an outage of seconds must not become one of minutes."""


class Away:
    """Something that takes connections and hangs up, or answers with these bytes; and how often it was asked."""

    def __init__(self, answer: bytes) -> None:
        self.requests = 0
        self.is_back = False
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            writer.write(OK if self.is_back else self._answer)
            await writer.drain()
        writer.close()


BODY = b'{"Enterprises": [], "Cursor": null}'
HEADERS = b"Content-Type: application/json\r\nRequest-Id: 1\r\nConnection: close\r\n"
OK = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (HEADERS, len(BODY), BODY)
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


async def every(interval_s: float, call: Callable[[], Awaitable[object]]) -> None:
    """Calls again and again, whatever comes of it."""
    while True:
        with suppress(ApiError):
            await call()
        await asyncio.sleep(interval_s)


async def outage(answer: bytes) -> None:
    """Everything that the daemon does goes on: pulls, discoveries, looks, and pushes where they may be sent."""
    loop, away = asyncio.get_running_loop(), Away(answer)
    server = await asyncio.start_server(away.serve, "127.0.0.1", 0)
    client = Client(
        f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        Credentials("client", "access", "test"),
        budget_requests=200,
        budget_window_s=30.0,
        read_timeout_s=60.0,
        max_response_bytes=2**20,
        clock=loop.time,
        rng=random.Random(1),
        stop=asyncio.Event(),
    )

    async def read() -> object:
        return await client.read(ENTERPRISES_GET_ALL, limitation(1, None), ENTERPRISES.decode)

    async def write() -> None:
        if not client.is_waiting:
            await client.write(VOUCHER_CODES_ADD, {}, ENTERPRISES.decode, 15.0)

    calls = [(2.0, read)] * READERS + [(600.0, read), (10.0, read), (5.0, write)]
    tasks = [asyncio.create_task(every(*one)) for one in calls]
    await asyncio.sleep(OUTAGE_S)
    assert 100 < away.requests < OUTAGE_S / SECONDS_PER_REQUEST
    away.is_back = True
    await asyncio.sleep(FOUND_S)  # leapt over
    assert not client.is_probing
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.aclose()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("answer", [b"", UNAVAILABLE], ids=["hangs up", "503"])
def test_an_api_that_is_away_is_asked_seldom_and_found_soon(answer: bytes) -> None:
    run_leaping(outage(answer))
