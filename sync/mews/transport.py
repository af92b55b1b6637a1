"""HTTP connections that survive cancelled requests.

httpcore 1.0.9 can lose a pool's slot for ever when a request is cancelled while it waits for a connection or makes one
(encode/httpcore issue 1093): after enough cancellations every later request times out. A total time-out is a
cancellation too. So a client in which a request was cancelled takes no further ones: a fresh one replaces it, and it is
closed with its sockets as soon as its last request is done.
"""

import asyncio
import random
import sys
import time
from collections.abc import Callable, Sequence
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.util import find_spec
from typing import TypeVar

import httpx

from sync.mews import bodies
from sync.mews.address import same_address
from sync.mews.platform_cap import PlatformCap, PlatformLimits
from sync.mews.platform_circuit import PlatformCircuit
from sync.mews.surroundings import proxy_for, tls_context
from sync.mews.traffic import Traffic

if "sniffio" not in sys.modules and find_spec("sniffio") is None:
    # httpcore looks for it at every request, to see which loop runs. What is not installed is looked for in all of
    # `sys.path` each time, unless it stands here: that is three tenths of the processor time of a request.
    sys.modules["sniffio"] = None  # type: ignore[assignment]  # which Python takes for "there is none"

T = TypeVar("T")

PATH_PREFIX = "/api/connector/v1/"
CONNECT_TIMEOUT_S = 10.0
KEPT_ALIVE = 100
"""Idle connections of a pool that many tokens share."""


class HttpPool:
    """The connections to one platform address, whichever tokens they are used for.

    Tokens that share it share a `cap` and a `circuit`. An answer's body may have `max_response_bytes`, unpacked.
    `SettingsError` where the environment names a proxy or certificates that cannot be used.
    """

    def __init__(
        self,
        platform_address: str,
        *,
        max_response_bytes: int,
        max_connections: int | None = None,
        cap: PlatformCap | None = None,
        circuit: PlatformCircuit | None = None,
    ) -> None:
        self.cap, self.circuit = cap, circuit
        self._platform_address = platform_address
        self._limit = bodies.limit(max_response_bytes)
        kept = KEPT_ALIVE if max_connections is None else max_connections
        self._limits = httpx.Limits(max_connections=max_connections, max_keepalive_connections=kept)
        # Reading the system's certificates takes tens of milliseconds, too long to repeat for every fresh client.
        self._tls = tls_context(platform_address)
        self._proxy = proxy_for(platform_address)
        self._current = self._fresh()

    async def post(self, path: str, body: bytes) -> httpx.Response:
        """One POST, which the caller cancels when time runs out. Raises `httpx.HTTPError` as httpx does."""
        client = self._current
        client.requests += 1
        try:
            return await client.http.post(path, content=body)
        except asyncio.CancelledError:
            self._retire(client)
            raise
        finally:
            client.requests -= 1
            await self._close_if_done(client)

    async def renew(self) -> None:
        """Let what follows use new connections: those that there are may lead nowhere."""
        client = self._current
        self._retire(client)
        await self._close_if_done(client)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._current.http.aclose()

    def _fresh(self) -> "_Client":
        return _Client(
            httpx.AsyncClient(
                base_url=self._platform_address,
                headers={
                    "Content-Type": "application/json",
                    "Accept": "application/json",
                    "Accept-Encoding": bodies.ACCEPTED,
                },
                event_hooks={"response": [self._limit]},
                # The API has no sessions: what is set on the way would be sent for ever, more of it with each answer.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                limits=self._limits,
                timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
                verify=self._tls,
                proxy=self._proxy,
                trust_env=False,  # what it says is read already
            )
        )

    def _retire(self, client: "_Client") -> None:
        if client is self._current:
            self._current = self._fresh()

    async def _close_if_done(self, client: "_Client") -> None:
        if client is not self._current and client.requests == 0:
            await asyncio.shield(client.http.aclose())


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
        self.traffic = Traffic()
        self._is_own = pool is None
        self._pool = pool or HttpPool(
            platform_address, max_response_bytes=max_response_bytes, max_connections=max_connections
        )
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


class _Client:
    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.requests = 0


async def first_outcome(calls: Sequence["asyncio.Task[T]"]) -> T:
    """What the first of them to end brings, or raises; of several that end at once, an answer goes before an error."""
    done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    ended = [call for call in calls if call in done]
    return await next((call for call in ended if call.exception() is None), ended[0])
