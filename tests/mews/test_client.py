"""Calls over real HTTP: what is tried again and what is not, how often, how fast, and what never leaves."""

import asyncio
import random
import time
import traceback
from asyncio import CancelledError
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import psutil
import pytest
from aiohttp import web

from sync.demo.simulator import (
    Close,
    Drip,
    Fault,
    Hang,
    HtmlPage,
    MalformedJson,
    Operation,
    RateLimit,
    RawBody,
    RetryAfter,
    Simulator,
    Slow,
    Status,
    TruncatedBody,
)
from sync.mews.client import LEAST_SILENCE_S, MAX_CONNECTIONS, Client, Credentials, Patience
from sync.mews.operations import ENTERPRISES, ENTERPRISES_GET_ALL, limitation
from sync.model import errors
from sync.model.retry import Backoff
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, IMPATIENT, Mirror

ONCE = Patience(max_attempts=1)
PATIENT = Patience(backoff=Backoff(base_s=1000, cap_s=1000), max_pause_s=1000)
"""Pauses for so long that no test would see their end."""
LONG_S = 10.0
"""The time of a read that none of these waits for, but for a tenth of it."""
CREDENTIALS = Credentials(CLIENT_TOKEN, ACCESS_TOKEN, "test")


class StopWatch:
    """A clock that a test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def api() -> AsyncIterator[Mirror]:
    """The served API, which forgives no request within a Retry-After; there is no database here."""
    api = Mirror("no database", grace_s=0.0)
    async with api.served():
        yield api


@asynccontextmanager
async def opened(api: Mirror, *, address: str = "", **options: Any) -> AsyncIterator[Client]:
    """A client of the API with its tokens and no budget to speak of."""
    usual: dict[str, Any] = {
        "budget_requests": 1_000_000,
        "budget_window_s": 30.0,
        "read_timeout_s": 30.0,
        "max_response_bytes": 1_000_000,
        "clock": time.monotonic,
        "rng": random.Random(1),
        "stop": api.stop,
        "patience": IMPATIENT,
    }
    client = Client(address or api.address, CREDENTIALS, **(usual | options))
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


async def fail(client: Client) -> errors.ApiError:
    """The error of a call that must fail."""
    with pytest.raises(errors.ApiError) as raised:
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


# What is tried again


@pytest.mark.parametrize(
    "fault",
    [
        Status(409),
        Status(429),
        Status(429, retry_after=RetryAfter(1, "seconds")),
        Status(429, retry_after=RetryAfter(0.2, "date")),
        Status(500),
        Status(502),
        Status(503),
        Status(503, html=False),
        Close(),
        TruncatedBody(),
        MalformedJson(),
        HtmlPage(),
        RawBody(b"{}"),
        RawBody(b""),
    ],
    ids=repr,
)
async def test_a_read_is_tried_again_after_what_may_pass(api: Mirror, fault: Fault) -> None:
    script(api, fault)
    async with opened(api) as client:
        assert await read(client) == ["Hotel A"]
    assert len(api.simulator.requests) == 2
    assert api.simulator.violations == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.WrongAddress),
        (408, errors.TooHeavy),
        (413, errors.TooLarge),
    ],
)
async def test_what_will_not_pass_is_raised_at_once_in_the_apis_words(
    api: Mirror, status: int, kind: type[errors.ApiError]
) -> None:
    script(api, Status(status, "Told to fail"), times=9)
    async with opened(api) as client:
        error = await fail(client)
    (request,) = api.simulator.requests
    assert type(error) is kind
    assert (error.status, error.api_message, error.request_id) == (status, "Told to fail", request.request_id)
    assert all(part in str(error) for part in (ENTERPRISES_GET_ALL, str(status), "Told to fail", request.request_id))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(Status(500), errors.ServerFault), (Close(), errors.ConnectionLost), (HtmlPage(), errors.Unreadable)],
    ids=repr,
)
async def test_in_the_end_the_last_failure_is_raised(api: Mirror, fault: Fault, kind: type[errors.ApiError]) -> None:
    script(api, fault, times=9)
    async with opened(api, patience=Patience(max_attempts=3, backoff=IMPATIENT.backoff)) as client:
        assert type(await fail(client)) is kind
    assert len(api.simulator.requests) == 3


async def test_an_answer_that_cannot_be_read_keeps_its_request_id(api: Mirror) -> None:
    script(api, MalformedJson())
    async with opened(api, patience=ONCE) as client:
        error = await fail(client)
    assert (error.status, error.request_id) == (200, api.simulator.requests[0].request_id)


async def test_a_server_that_is_not_there_is_not_connected(api: Mirror) -> None:
    gone = Mirror("no database")
    async with gone.served():
        pass
    async with opened(api, address=gone.address) as client:
        error = await fail(client)
    assert isinstance(error, errors.NotConnected | errors.CircuitOpen)
    assert "cannot be reached" in str(error)


# How long it may take


async def test_why_it_cannot_be_reached_is_said_while_it_is_not_tried_too(api: Mirror) -> None:
    async with opened(api, address="http://127.0.0.1:1", patience=Patience(max_attempts=6, max_pause_s=0.0)) as client:
        shown = [str(await fail(client)) for _ in range(6)]
    assert "not tried" in shown[-1]
    assert "not tried" not in shown[0]
    reason = shown[0].rpartition(": ")[2]
    assert shown[-1].endswith(reason)


# A way to the API that hangs


@pytest.mark.parametrize("is_known", [False, True], ids=["first call", "after a good answer"])
async def test_a_read_that_hangs_is_sent_once_more(api: Mirror, is_known: bool) -> None:
    async with opened(api, read_timeout_s=LONG_S, patience=ONCE) as client:
        if is_known:
            await read(client)
        script(api, Hang(), Hang())
        assert await read(client) == ["Hotel A"]
    assert len(api.simulator.requests) == 3 + is_known


async def test_an_answer_that_comes_late_is_taken(api: Mirror) -> None:
    script(api, Slow(2.5), *[Hang()] * 5)
    async with opened(api, read_timeout_s=LONG_S, patience=ONCE) as client:
        assert await read(client) == ["Hotel A"]
        # One that was just about to go when the answer came has its place, and may never have arrived.
        assert client.budget.spent() - len(api.simulator.requests) in {0, 1}


async def test_so_is_a_read_behind_one_that_failed(api: Mirror) -> None:
    async with opened(api, read_timeout_s=LONG_S, patience=ONCE) as client:
        await read(client)
        script(api, Close(), Hang())
        await fail(client)
        assert await read(client) == ["Hotel A"]


async def test_of_many_reads_that_hang_one_at_a_time_is_sent_once_more(api: Mirror) -> None:
    hanging = 8
    async with opened(api, read_timeout_s=LONG_S, patience=ONCE) as client:
        await read(client)
        script(api, *[Hang()] * (hanging + 3))
        assert await asyncio.gather(*(read(client) for _ in range(hanging))) == [["Hotel A"]] * hanging
    arrivals = [one.arrived_s for one in [*api.simulator.requests][1 + hanging :]]
    assert len(arrivals) == hanging + 3
    assert all(later - earlier > 0.8 * LEAST_SILENCE_S for earlier, later in pairwise(arrivals[:4]))


@pytest.mark.parametrize("fault", [Hang(), Drip(0.02)], ids=repr)
async def test_the_time_out_is_for_the_whole_answer(api: Mirror, fault: Fault) -> None:
    async with opened(api, read_timeout_s=0.2, patience=ONCE) as client:
        await read(client)
        script(api, fault)
        error = await fail(client)
        assert type(error) is errors.ConnectionLost
        assert "0.2 s" in str(error)
        assert await read(client) == ["Hotel A"]


async def test_a_read_is_tried_again_after_a_time_out(api: Mirror) -> None:
    async with opened(api, read_timeout_s=0.2) as client:
        await read(client)
        script(api, Hang())
        assert await read(client) == ["Hotel A"]
    assert len(api.simulator.requests) == 3


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


# How often it may be called


@pytest.mark.parametrize("retry_after", [RetryAfter(1, "seconds"), RetryAfter(0.2, "date")], ids=repr)
async def test_retry_after_holds_back_every_request_of_the_token(api: Mirror, retry_after: RetryAfter) -> None:
    script(api, Status(429, retry_after=retry_after))
    async with opened(api, patience=ONCE) as client:
        error = await fail(client)
        assert isinstance(error, errors.RateLimited)
        assert error.retry_after_s is not None
        await asyncio.gather(*(read(client) for _ in range(5)))
    first, *others = api.simulator.requests
    assert min(one.arrived_s for one in others) >= first.arrived_s + retry_after.asked_s
    assert api.simulator.violations == []


async def test_a_long_retry_after_is_left_to_the_caller(api: Mirror) -> None:
    script(api, Status(429, retry_after=RetryAfter(31)))
    async with opened(api) as client:
        assert (await fail(client)).retry_after_s == 31
    assert len(api.simulator.requests) == 1


async def test_the_budget_draws_no_429_and_no_violation() -> None:
    api = Mirror("no database", rate_limit=RateLimit(requests=20, window_s=0.3), latency_s=0.01, grace_s=0.0)
    async with api.served(), opened(api, budget_requests=20, budget_window_s=0.3) as client:
        answers = await asyncio.gather(*(read(client) for _ in range(100)))
    assert answers == [["Hotel A"]] * 100
    assert [record.status for record in api.simulator.requests] == [200] * 100
    assert api.simulator.violations == []


async def test_a_client_without_the_budget_would_have_drawn_them() -> None:
    api = Mirror("no database", rate_limit=RateLimit(requests=20, window_s=0.3), grace_s=0.0)
    async with api.served(), opened(api, patience=ONCE) as client:
        ends = await asyncio.gather(*(read(client) for _ in range(100)), return_exceptions=True)
    assert any(isinstance(end, errors.RateLimited) for end in ends)
    assert api.simulator.violations != []


# The circuit


async def test_after_five_failures_the_server_is_left_alone_until_a_probe_succeeds(api: Mirror) -> None:
    watch = StopWatch()
    script(api, Status(500), times=6)
    patience = Patience(max_attempts=1, circuit_backoff=Backoff(base_s=60, cap_s=60))
    async with opened(api, clock=watch, patience=patience) as client:
        for _ in range(5):
            assert isinstance(await fail(client), errors.ServerFault)
        error = await fail(client)
        assert isinstance(error, errors.CircuitOpen)
        assert error.retry_after_s is not None
        assert 0 < error.retry_after_s <= 60
        assert "the API failed (500)" in str(error)
        assert len(api.simulator.requests) == 5

        watch.now_s += error.retry_after_s
        assert isinstance(await fail(client), errors.ServerFault)
        assert isinstance(await fail(client), errors.CircuitOpen)
        assert len(api.simulator.requests) == 6

        watch.now_s += 60
        for _ in range(3):
            assert await read(client) == ["Hotel A"]
        assert len(api.simulator.requests) == 9


async def test_only_one_probe_goes_at_a_time(api: Mirror) -> None:
    watch = StopWatch()
    script(api, Close(), times=5)
    async with opened(api, clock=watch, patience=ONCE) as client:
        for _ in range(5):
            await fail(client)
        watch.now_s += 60
        gate = Gate(api)
        probe = asyncio.create_task(read(client))
        await gate.arrived.wait()
        for _ in range(3):
            assert isinstance(await fail(client), errors.CircuitOpen)
        gate.open.set()
        assert await probe == ["Hotel A"]
        assert await read(client) == ["Hotel A"]


async def test_a_cancelled_probe_lets_another_go(api: Mirror) -> None:
    watch = StopWatch()
    script(api, Close(), times=5)
    async with opened(api, clock=watch, patience=ONCE) as client:
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


async def test_calls_that_the_api_refuses_open_no_circuit(api: Mirror) -> None:
    script(api, *[Status(500)] * 4, Status(400), times=3)
    async with opened(api, patience=ONCE) as client:
        for _ in range(15):
            await fail(client)
        assert await read(client) == ["Hotel A"]
    assert len(api.simulator.requests) == 16


# The end of the service


async def test_once_it_stops_nothing_is_sent(api: Mirror) -> None:
    api.stop.set()
    async with opened(api) as client:
        with pytest.raises(errors.Stopped):
            await read(client)
    assert len(api.simulator.requests) == 0


async def test_stopping_ends_the_pause_before_another_try(api: Mirror) -> None:
    script(api, Status(500))
    async with opened(api, patience=PATIENT) as client:
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


# What stays here


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_carries_no_token_anywhere(api: Mirror, status: int) -> None:
    stranger = Simulator(api.world)
    async with stranger.serve() as elsewhere, served(status, {"Location": f"{elsewhere}/"}) as address:
        async with opened(api, address=address) as client:
            assert isinstance(await fail(client), errors.WrongAddress)
    assert len(stranger.requests) == 0


@pytest.mark.parametrize(
    "fault",
    [
        Status(401),
        Status(400),
        Status(500),
        Status(403, f"You sent {CLIENT_TOKEN} and {ACCESS_TOKEN}"),
        Close(),
        HtmlPage(),
        RawBody(b'{"Enterprises": 7}'),
        Hang(),
    ],
    ids=repr,
)
async def test_no_error_shows_a_token(api: Mirror, fault: Fault) -> None:
    async with opened(api, read_timeout_s=0.1, patience=ONCE) as client:
        await read(client)
        script(api, fault)
        error = await fail(client)
        shown = [repr(client), str(error), repr(error), *traceback.format_exception(error)]
        shown += [repr(vars(error)), repr(error.__cause__), repr(CREDENTIALS), str(CREDENTIALS)]
    assert not [text for text in shown if CLIENT_TOKEN in text or ACCESS_TOKEN in text]


async def test_the_servers_clock_is_read_off_failures_too(api: Mirror) -> None:
    script(api, Status(401))
    async with opened(api) as client:
        assert client.server_clock.now() is None
        await fail(client)
        assert client.server_clock.now() is not None
