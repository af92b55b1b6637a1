"""Twenty minutes of trying an API that is away, by the daemon's own patience: it is asked seldom, and found soon."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from itertools import pairwise

import pytest

from sync.core.api_errors import ApiError
from sync.mews.client import Client
from sync.mews.client_settings import ClientSettings, Credentials
from sync.mews.operations import ENTERPRISES, ENTERPRISES_GET_ALL, VOUCHER_CODES_ADD, limitation
from sync.signals import Signal
from tests.outages.virtual_clock import run_in_virtual_time

OUTAGE_S = 1200.0
"""The longest pause is reached within a minute; from then on a minute is like the next."""
BEGINNING_S = 180.0
"""When the pauses have come to their longest, also where each failure takes a time-out."""
READERS = 8
FOUND_S = 10.0
"""So long at most lies between any two requests then: whenever the API returns, it is found within ten seconds."""
SELDOM_S = 5.0
"""So long lies between two on average. Any two at least a third of it: one may travel longer than the next."""


class Away:
    """Something that takes connections and hangs up, answers with these bytes, or never does (None).

    `asked_at` is when, by the event loop's time.
    """

    def __init__(self, answer: bytes | None) -> None:
        self.asked_at: list[float] = []
        self.connections: list[asyncio.Task[None]] = []
        self.is_back = False
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        self.connections.append(loop.create_task(self._answer_one(reader, writer)))

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError), closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            self.asked_at.append(asyncio.get_running_loop().time())
            answer = OK if self.is_back else self._answer
            if answer is None:
                await reader.read()  # until the other side gives up
            else:
                writer.write(answer)
                await writer.drain()


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


def patient_client(port: int) -> Client:
    """The daemon's own client, by the event loop's time."""
    return Client(
        Credentials(f"http://127.0.0.1:{port}", "client", "access", "test"),
        ClientSettings(200, 30.0, read_timeout_s=60.0, max_response_bytes=2**20),
        clock=asyncio.get_running_loop().time,
        rng=random.Random(1),
        stop=Signal(),
    )


def begun(client: Client, *, may_write: bool) -> list[asyncio.Task[None]]:
    """Everything that the daemon does: pulls, discoveries, looks, and pushes where they may be sent."""

    async def read() -> object:
        return await client.read(ENTERPRISES_GET_ALL, limitation(1, None), ENTERPRISES.decode)

    async def write() -> None:
        if not client.is_waiting:
            await client.write(VOUCHER_CODES_ADD, {}, ENTERPRISES.decode, 15.0)

    calls = [(2.0, read)] * READERS + [(600.0, read), (10.0, read)]
    if may_write:
        calls.append((5.0, write))
    return [asyncio.create_task(every(*one)) for one in calls]


async def outage(answer: bytes | None) -> None:
    """All of it goes on while the API is away for `OUTAGE_S`, and finds it when it is back."""
    loop, away = asyncio.get_running_loop(), Away(answer)
    server = await asyncio.start_server(away.serve, "127.0.0.1", 0)
    client = patient_client(server.sockets[0].getsockname()[1])
    # A write that hangs is nothing to send again, and where it is the probe nobody else asks for its 15 s.
    tasks = begun(client, may_write=answer is not None)
    began_s = loop.time()
    await asyncio.sleep(OUTAGE_S)
    asked_at = [at_s for at_s in away.asked_at if at_s > began_s + BEGINNING_S]
    pauses_s = [later - earlier for earlier, later in pairwise([*asked_at, loop.time()])]
    away.is_back = True
    await asyncio.sleep(FOUND_S)  # leapt over
    is_found = not client.is_probing
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.aclose()
    await asyncio.gather(*away.connections, return_exceptions=True)
    server.close()
    await server.wait_closed()
    assert is_found
    assert max(pauses_s) <= FOUND_S
    assert sum(pauses_s) / len(pauses_s) >= SELDOM_S
    # A read that hangs may be sent once more in the moment in which its time is over.
    assert answer is None or min(pauses_s[:-1]) >= SELDOM_S / 3


@pytest.mark.sampled
@pytest.mark.parametrize("answer", [b"", UNAVAILABLE, None], ids=["hangs up", "503", "hangs"])
def test_an_api_that_is_away_is_asked_seldom_and_found_soon(answer: bytes | None) -> None:
    run_in_virtual_time(outage(answer))
