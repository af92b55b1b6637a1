"""Connections over real HTTP: cancelled and timed-out requests take nothing with them, and no socket is left behind."""

import asyncio
import gc
import json
import random
import ssl
import sys
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psutil
import pytest

from sync.demo.simulator import Drip, Endless, Hang, Operation
from sync.mews.bodies import is_cut
from sync.mews.platform_cap import PlatformLimits
from sync.mews.transport import KEPT_ALIVE_S, HttpPool, HttpPools, Transport
from tests.mews.helpers import turns
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror

POOL = 4
CANCELLATIONS = 1000
WAITING = 200
PATIENCE_S = 30
"""How long a test waits for what should come at once."""
MAX_BYTES = 100_000
PATH = f"/api/connector/v1/{Operation.GET_ENTERPRISES}"
BODY = json.dumps(
    {"ClientToken": CLIENT_TOKEN, "AccessToken": ACCESS_TOKEN, "Client": "test", "Limitation": {"Count": 1}}
).encode()


@pytest.fixture
async def api() -> AsyncIterator[Mirror]:
    """The served API; there is no database here."""
    api = Mirror("no database", latency_s=0.001)
    async with api.served():
        yield api


@asynccontextmanager
async def opened(api: Mirror) -> AsyncIterator[Transport]:
    """A transport with a small pool; nothing of it may be open afterwards."""
    transport = Transport(api.address, max_connections=POOL, max_response_bytes=MAX_BYTES)
    yield transport
    await transport.aclose()
    await until(lambda: connections(api) == 0)
    gc.collect()  # a client that was dropped without being closed would warn here, which is an error


async def post(transport: Transport, timeout_s: float = 30) -> httpx.Response:
    return await transport.post(PATH, BODY, timeout_s=timeout_s)


async def until(is_so: Callable[[], bool]) -> None:
    """Waits for something that the event loop is about to do."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():
            await turns(1)


def connections(api: Mirror) -> int:
    """How many sockets of ours lead to the server."""
    sockets = psutil.Process().net_connections("tcp")
    return sum(1 for one in sockets if one.raddr and one.raddr.port == api.port)


async def cancel_some(transport: Transport, rng: random.Random) -> int:
    """Begins more requests than there are connections, cancels each at a random turn, and counts the cancelled."""
    requests = [asyncio.create_task(post(transport)) for _ in range(4 * POOL)]
    for request in rng.sample(requests, len(requests)):
        await turns(rng.randrange(10))
        request.cancel()
    ends = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(end, CancelledError | httpx.Response) for end in ends)
    return sum(isinstance(end, CancelledError) for end in ends)


async def serves_a_hundred(transport: Transport) -> None:
    """A hundred plain requests at once, over however few connections, are all answered whole."""
    answers = await asyncio.gather(*(post(transport) for _ in range(100)))
    assert [(answer.status_code, is_cut(answer)) for answer in answers] == [(200, False)] * 100


@pytest.mark.long
async def test_it_survives_a_thousand_cancelled_requests(api: Mirror) -> None:
    rng = random.Random(1)
    async with opened(api) as transport:
        cancelled = 0
        while cancelled < CANCELLATIONS:
            cancelled += await cancel_some(transport, rng)
        # Some were cancelled before they were sent, some while they waited for the answer.
        assert 100 < len(api.simulator.requests) < CANCELLATIONS
        await serves_a_hundred(transport)
        await until(lambda: connections(api) <= POOL)


async def test_it_survives_requests_cancelled_while_all_connections_are_taken(api: Mirror) -> None:
    release = hold_answers(api)
    async with opened(api) as transport:
        first = [asyncio.create_task(post(transport)) for _ in range(POOL)]
        await until(lambda: len(api.simulator.requests) == POOL)
        waiting = [asyncio.create_task(post(transport)) for _ in range(WAITING)]
        await turns(10)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        release.set()
        assert [answer.status_code for answer in await asyncio.gather(*first)] == [200] * POOL
        assert (await post(transport)).status_code == 200
        await until(lambda: connections(api) <= POOL)


@pytest.mark.long
async def test_it_survives_answers_that_never_come(api: Mirror) -> None:
    api.simulator.faults.script(None, Hang(), times=5 * POOL)
    async with opened(api) as transport:
        for _ in range(5):
            ends = await asyncio.gather(*(post(transport, 0.05) for _ in range(POOL)), return_exceptions=True)
            assert [type(end) for end in ends] == [TimeoutError] * POOL
        # On a slow machine some time out before they arrive, and what was meant for them would meet the next ones.
        api.simulator.faults.stop()
        await serves_a_hundred(transport)
        await until(lambda: connections(api) <= POOL)


@pytest.mark.long
async def test_it_survives_answers_that_are_too_long(api: Mirror) -> None:
    api.simulator.faults.script(None, Endless(), times=150)
    async with opened(api) as transport:
        answers = await asyncio.gather(*(post(transport) for _ in range(150)))
        assert [(answer.status_code, is_cut(answer)) for answer in answers] == [(200, True)] * 150
        await serves_a_hundred(transport)
        await until(lambda: connections(api) <= POOL)


@pytest.mark.long
async def test_it_survives_cancellations_among_answers_that_are_too_long(api: Mirror) -> None:
    rng, cancelled, cut = random.Random(3), 0, 0
    api.simulator.faults.by_chance({Endless(): 0.5}, seed=3)
    async with opened(api) as transport:
        while cancelled < 150 or cut < 150:
            requests = [asyncio.create_task(post(transport)) for _ in range(4 * POOL)]
            for request in rng.sample(requests, POOL):
                await turns(rng.randrange(100))
                request.cancel()
            ends = await asyncio.gather(*requests, return_exceptions=True)
            assert all(isinstance(end, CancelledError | httpx.Response) for end in ends)
            cancelled += sum(isinstance(end, CancelledError) for end in ends)
            cut += sum(isinstance(end, httpx.Response) and is_cut(end) for end in ends)
        api.simulator.faults.stop()
        await serves_a_hundred(transport)
        await until(lambda: connections(api) <= POOL)


async def test_the_time_is_for_the_whole_answer_however_steadily_it_comes(api: Mirror) -> None:
    api.simulator.faults.script(None, Drip(0.02))
    async with opened(api) as transport:
        with pytest.raises(TimeoutError):
            await post(transport, 0.2)


async def test_the_neighbours_of_a_cancelled_request_go_on(api: Mirror) -> None:
    release = hold_answers(api)
    async with opened(api) as transport:
        neighbours = [asyncio.create_task(post(transport)) for _ in range(POOL - 1)]
        cancelled = asyncio.create_task(post(transport))
        await until(lambda: len(api.simulator.requests) == POOL)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        later = asyncio.create_task(post(transport))
        await until(lambda: len(api.simulator.requests) == POOL + 1)
        release.set()
        answers = await asyncio.gather(*neighbours, later)
        assert [answer.status_code for answer in answers] == [200] * POOL
        # Only the connection of the cancelled one is closed.
        await until(lambda: connections(api) == POOL)


@pytest.mark.long
async def test_connections_are_used_again(api: Mirror) -> None:
    async with opened(api) as transport:
        for _ in range(20):
            await post(transport)
            assert connections(api) == 1


async def test_connections_that_nobody_uses_any_more_are_closed_with_the_next_request(api: Mirror) -> None:
    now_s = [0.0]
    pool = HttpPool(api.address, max_response_bytes=MAX_BYTES, clock=lambda: now_s[0])
    release = hold_answers(api)
    together = [asyncio.create_task(pool.post(PATH, BODY)) for _ in range(POOL)]
    await until(lambda: len(api.simulator.requests) == POOL)
    release.set()
    await asyncio.gather(*together)
    assert connections(api) == POOL
    now_s[0] = KEPT_ALIVE_S
    await pool.post(PATH, BODY)
    assert connections(api) == POOL
    now_s[0] = 1.5 * KEPT_ALIVE_S
    await pool.post(PATH, BODY)
    await until(lambda: connections(api) == 1)
    await pool.aclose()
    await until(lambda: connections(api) == 0)


async def test_a_connection_is_used_no_more_once_new_ones_are_to_be(api: Mirror) -> None:
    pool = HttpPool(api.address, max_response_bytes=MAX_BYTES)
    release = hold_answers(api)
    before = asyncio.create_task(pool.post(PATH, BODY))
    await until(lambda: len(api.simulator.requests) == 1)
    await pool.renew()
    release.set()
    assert (await before).status_code == 200
    await until(lambda: connections(api) == 0)
    await pool.aclose()


async def test_no_request_looks_for_a_library_that_is_not_installed(
    api: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for: list[str] = []

    class Watching:
        def find_spec(self, name: str, *_: object) -> None:
            looked_for.append(name)

    async with opened(api) as transport:
        await post(transport)
        monkeypatch.setattr(sys, "meta_path", [Watching(), *sys.meta_path])
        await post(transport)
    assert not looked_for


def hold_answers(api: Mirror) -> asyncio.Event:
    """Lets every request wait for an event before it is answered."""
    release = asyncio.Event()

    async def on_request(_operation: Operation, _body: Any) -> None:
        await release.wait()

    api.simulator.on_request = on_request
    return release


async def test_certificates_are_verified_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PYTHONHTTPSVERIFY": "0", "SSL_VERIFY": "0", "CURL_INSECURE": "1", "HTTPX_VERIFY": "0"}.items():
        monkeypatch.setenv(name, value)
    transport = Transport("https://api.example", max_connections=POOL, max_response_bytes=MAX_BYTES)
    # Nothing public tells what a connection of httpx would be opened with, and no certificate is at hand to refuse.
    async with transport._pool.connect() as connection:
        context = connection._pool._ssl_context
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    await transport.aclose()


async def test_tokens_of_one_address_share_its_connections_and_none_closes_them(api: Mirror) -> None:
    pools = HttpPools(MAX_BYTES)
    limits = {"max_connections": POOL, "max_response_bytes": MAX_BYTES}
    one, other = (Transport(api.address, **limits, pool=pools.of(api.address)) for _ in range(2))
    await post(one)
    await one.aclose()
    assert connections(api) == 1
    await post(other)
    assert connections(api) == 1
    assert pools.of("https://another.example") is not pools.of(api.address)
    await pools.aclose()
    await until(lambda: connections(api) == 0)


async def test_tokens_of_one_address_share_its_cap_and_each_address_has_one() -> None:
    pools = HttpPools(MAX_BYTES, PlatformLimits(100, 200))
    cap = pools.of("https://api.example").cap
    assert cap is pools.of("https://api.example").cap
    pools.take_part(0.1)
    assert pools.of("https://another.example").cap is not cap
    assert {address: one.limits for address, one in pools.caps.items()} == {
        f"https://{name}.example": PlatformLimits(10, 20) for name in ("api", "another")
    }
    await pools.aclose()
