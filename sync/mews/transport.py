"""HTTP connections of which each is a transport of httpx's own, and the one that was used last is used again.

httpcore goes through all of a pool's connections at every request, and asks the system about each that is idle: of the
time that a request takes with forty of them, that is half. And it can lose a pool's slot for ever when a request is
cancelled while it waits for a connection or makes one (httpcore 1.0.9, encode/httpcore issue 1093): a total time-out is
a cancellation too. A transport that has one connection, and is closed when its request is cancelled, has neither of
these troubles.

What httpx's client does above its transport is left out. It merges addresses, headers and cookies, and looks for logins
and redirects; the API has none of these, and that is a third of the processor time of a request.
"""

import asyncio
import random
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import TypeVar

import httpx

from sync.mews import bodies
from sync.mews.address import same_address
from sync.mews.clock import PlatformClock
from sync.mews.platform_cap import PlatformCap, PlatformLimits
from sync.mews.platform_circuit import PlatformCircuit
from sync.mews.surroundings import proxy_for, tls_context
from sync.mews.traffic import Durations, Traffic, no_durations

if "sniffio" not in sys.modules and find_spec("sniffio") is None:
    # httpcore looks for it at every request, to see which loop runs. What is not installed is looked for in all of
    # `sys.path` each time, unless it stands here: that is three tenths of the processor time of a request.
    sys.modules["sniffio"] = None  # type: ignore[assignment]  # which Python takes for "there is none"

T = TypeVar("T")

PATH_PREFIX = "/api/connector/v1/"
EXTENSIONS = {"timeout": httpx.Timeout(None, connect=10.0).as_dict()}
HEADERS = httpx.Headers(
    {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": bodies.ACCEPTED,
        "User-Agent": f"voucher-sync/{version('voucher-sync')}",
    }
)
KEPT_ALIVE = 100
"""Idle connections of a pool, which many tokens share."""
KEPT_ALIVE_S = 5.0
"""Servers close connections that are idle for longer, some while the next request is on its way."""

FORGETS_AT_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
"""Else the kernel sends for minutes after it was closed what a network that dropped packets has not taken: a write that
was given up, and looked up in vain, would arrive after the one that was sent in its place."""


class HttpPool:
    """The connections to one platform address, whichever tokens they are used for.

    Tokens that share it share a `cap`, a `circuit` and what the `server_clock` showed last, and count their
    `durations_s` together. An answer's body may have `max_response_bytes`, unpacked.

    `SettingsError` where the environment names a proxy or certificates that cannot be used.
    """

    def __init__(
        self,
        platform_address: str,
        *,
        max_response_bytes: int,
        cap: PlatformCap | None = None,
        circuit: PlatformCircuit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.cap, self.circuit = cap, circuit
        self.durations_s = no_durations()
        self.server_clock = PlatformClock()
        self._platform_address = platform_address.rstrip("/")
        self._urls: dict[str, httpx.URL] = {}
        self._max_response_bytes = max_response_bytes
        # Reading the system's certificates takes tens of milliseconds, too long to repeat for every connection.
        self._tls = tls_context(platform_address)
        self._proxy = proxy_for(platform_address)
        self._clock = clock
        self._idle = deque[_Idle]()

    async def post(self, path: str, body: bytes) -> httpx.Response:
        """One POST, which the caller cancels when time runs out. Raises `httpx.HTTPError` as httpx does."""
        await self._close_idle(self._idle, KEPT_ALIVE)
        idle = self._idle
        connection = idle.pop().connection if idle else self.connect()
        try:
            answer = await self._ask(connection, path, body)
        except BaseException:
            await asyncio.shield(connection.aclose())
            raise
        if idle is self._idle:
            idle.append(_Idle(connection, self._clock()))
        else:
            await asyncio.shield(connection.aclose())
        return answer

    async def _ask(self, connection: httpx.AsyncHTTPTransport, path: str, body: bytes) -> httpx.Response:
        if (url := self._urls.get(path)) is None:
            url = self._urls[path] = httpx.URL(self._platform_address + path)
        request = httpx.Request("POST", url, headers=HEADERS, content=body, extensions=EXTENSIONS)
        answer = await connection.handle_async_request(request)
        bodies.limit(answer, self._max_response_bytes)
        await answer.aread()
        return answer

    async def renew(self) -> None:
        """Let what follows use new connections: those that there are may lead nowhere."""
        idle, self._idle = self._idle, deque()
        await self._close_idle(idle, 0)

    async def aclose(self) -> None:
        """Close every connection; those in use once they are not."""
        await self.renew()

    async def _close_idle(self, idle: "deque[_Idle]", kept: int) -> None:
        """Close what nobody has used for long, and what is more than are `kept`."""
        while len(idle) > kept or (idle and idle[0].since_s < self._clock() - KEPT_ALIVE_S):
            await asyncio.shield(idle.popleft().connection.aclose())

    def connect(self) -> httpx.AsyncHTTPTransport:
        """One connection, which is made when it is first used."""
        return httpx.AsyncHTTPTransport(
            verify=self._tls,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=KEPT_ALIVE_S),
            proxy=self._proxy,
            trust_env=False,  # what it says is read already
            socket_options=[FORGETS_AT_CLOSE],
        )


class HttpPools:
    """A pool for each platform address, made when it is first asked for and shared by all of its tokens.

    `limits`: of what may be asked of each address; without them there is no cap. `on_return` is called when an address
    that had answered nobody is back.
    """

    def __init__(
        self,
        max_response_bytes: int,
        limits: PlatformLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_response_bytes = max_response_bytes
        self._limits = limits
        self._clock = clock
        self._rng = random.Random()  # noqa: S311 - spreads probes
        self._part = 1.0
        self.on_return: Callable[[], None] = lambda: None
        self._pools: dict[str, HttpPool] = {}

    @property
    def caps(self) -> dict[str, PlatformCap]:
        """The cap of each address that was asked for."""
        return {address: pool.cap for address, pool in self._pools.items() if pool.cap is not None}

    @property
    def away(self) -> set[str]:
        """The addresses that answer nobody."""
        return {address for address, pool in self._pools.items() if pool.circuit is not None and pool.circuit.is_open}

    @property
    def durations_s(self) -> dict[str, Durations]:
        """How long calls of each address took."""
        return {address: pool.durations_s for address, pool in self._pools.items()}

    def take_part(self, part: float) -> None:
        """Have this share of the limits of every address from now on; the rest is other processes'."""
        self._part = part
        for cap in self.caps.values():
            cap.take_part(part)

    def of(self, platform_address: str) -> HttpPool:
        """The pool of an address. `SettingsError` as `HttpPool` says."""
        address = same_address(platform_address)
        if (pool := self._pools.get(address)) is None:
            cap = PlatformCap(self._limits, self._clock, self._part) if self._limits else None
            circuit = PlatformCircuit(address, self._rng, self._clock, self._returned)
            pool = HttpPool(platform_address, max_response_bytes=self._max_response_bytes, cap=cap, circuit=circuit)
            self._pools[address] = pool
        return pool

    def _returned(self) -> None:
        self.on_return()

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            if pool.circuit is not None:
                await pool.circuit.aclose()
            await pool.aclose()


class Transport:
    """POSTs bodies for one access token, at most `max_connections` at once.

    Its pool is its own and closed with it, as `HttpPool` says; or one that others use too, and close.
    """

    __slots__ = ("_is_own", "_places", "_pool", "traffic")

    def __init__(
        self, platform_address: str, *, max_connections: int, max_response_bytes: int, pool: HttpPool | None = None
    ) -> None:
        self._is_own = pool is None
        self._pool = pool or HttpPool(platform_address, max_response_bytes=max_response_bytes)
        self.traffic = Traffic(self._pool.durations_s)
        self._places = asyncio.Semaphore(max_connections)

    async def post(self, path: str, body: bytes, *, timeout_s: float) -> httpx.Response:
        """One POST with `timeout_s` for all of it: connecting, sending, and reading the whole answer.

        An answer that is too long comes without its body, and `bodies.is_cut`. Raises `TimeoutError` when time ran out,
        and `httpx.HTTPError` as httpx does.
        """
        with self.traffic.measured(sys.intern(path.removeprefix(PATH_PREFIX))) as call:
            async with asyncio.timeout(timeout_s), self._places:
                answer = await self._pool.post(path, body)
            call.status = answer.status_code
            return answer

    async def renew(self) -> None:
        """Let what follows use new connections: those that there are may lead nowhere."""
        await self._pool.renew()

    async def aclose(self) -> None:
        """Close every connection of its own."""
        if self._is_own:
            await self._pool.aclose()


@dataclass(frozen=True, slots=True)
class _Idle:
    """A connection that nobody has used since an instant of the pool's clock."""

    connection: httpx.AsyncHTTPTransport
    since_s: float


async def first_outcome(calls: Sequence["asyncio.Task[T]"]) -> T:
    """What the first of them to end brings, or raises; of several that end at once, an answer goes before an error."""
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    ended = [call for call in calls if call in done]
    return await next((call for call in ended if call.exception() is None), ended[0])
