"""Calls of the API for one access token: within its budget, with retries for reads, and with every failure mapped."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import httpx
import msgspec

from sync.core import api_errors, errors
from sync.core.plurals import in_seconds
from sync.mews import bodies, failures
from sync.mews.circuit import TokenCircuit
from sync.mews.client_settings import ClientSettings, Credentials
from sync.mews.clock import ServerClock, wall_clock
from sync.mews.ledger import Ledger
from sync.mews.pages import UNREADABLE
from sync.mews.platform_cap import CappedCaller
from sync.mews.platform_circuit import PROBE, PROBE_TIMEOUT_S
from sync.mews.rate_limiter import Priority, RateLimiter
from sync.mews.transport import PATH_PREFIX, HttpPool, Transport, first_outcome
from sync.signals import Signal, Turn

T = TypeVar("T")

MAX_CONNECTIONS = 16
SILENCE = 0.1
"""Share of a read's time after which it counts as hanging, and is sent once more."""

LEAST_SILENCE_S = 1.0
"""However little time a read has: a busy machine takes as long."""

RETRIED = (
    api_errors.NotConnected,
    api_errors.CircuitOpen,
    api_errors.Conflict,
    api_errors.RateLimited,
    api_errors.ServerError,
    api_errors.ConnectionLost,
    api_errors.InvalidResponse,
)
"""What a read tries again by itself. `RequestTimedOut` is not among them: the caller must ask for less."""

HOLDING = (api_errors.RateLimited, api_errors.ServerError)
"""What may ask, by `Retry-After`, for silence from the whole token."""


class Client:
    """One access token on one platform address.

    `clock` gives seconds that only go forward. Once `stop` is set, nothing new is sent and every wait ends with
    `Stopped`; what is in flight goes on. With a `ledger`, the budget is shared with other processes of the token, and
    every call raises `DatabaseError` where it cannot be written down beforehand. A `pool` is others' too, and stays.
    """

    __slots__ = (
        "_circuit", "_credentials", "_now_s", "_one_beside", "_read_timeout_s", "_retry_policy", "_rng",
        "_stop", "_transport", "failure_log", "rate_limiter", "server_clock", "traffic",
    )  # fmt: skip

    def __init__(
        self,
        credentials: Credentials,
        settings: ClientSettings,
        *,
        clock: Callable[[], float],
        rng: random.Random,
        stop: Signal,
        ledger: Ledger | None = None,
        pool: HttpPool | None = None,
    ) -> None:
        self._credentials = credentials
        self._read_timeout_s = settings.read_timeout_s
        self._rng = rng
        self._stop = stop
        self._retry_policy = retry_policy = settings.retry_policy
        limits = {"max_connections": MAX_CONNECTIONS, "max_response_bytes": settings.max_response_bytes}
        self._transport = Transport(credentials.platform_address, **limits, pool=pool)
        platform = pool.circuit if pool else None
        self._circuit = TokenCircuit(retry_policy.circuit_backoff, rng, clock, platform=platform, prober=self)
        self._now_s = clock
        self.traffic, self.failure_log = self._transport.traffic, self._circuit.failure_log
        self._one_beside = Turn()
        capped = CappedCaller(pool.cap) if pool and pool.cap else None
        self.rate_limiter = RateLimiter(
            settings.budget_requests,
            settings.budget_window_s,
            clock=clock,
            pause=self._pause,
            ledger=ledger,
            capped=capped,
        )
        self.server_clock = ServerClock(clock, settings.clock_tolerance, platform=pool.server_clock if pool else None)

    async def read(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        decode: Callable[[bytes], T],
        priority: Priority = Priority.PULL,
    ) -> T:
        """Call an operation that changes nothing, again where that may help, and decode its answer.

        `operation` is for example `voucherCodes/getAll`, `parameters` its body beside the tokens. `decode` raises one
        of `UNREADABLE`. Raises `ApiError` in its variants, and `Stopped`.
        """
        failed, retry_policy = 0, self._retry_policy
        while True:
            try:
                if (silent_s := self.rate_limiter.silent_s()) > retry_policy.max_pause_s:
                    raise api_errors.RateLimited(operation, "the API has asked for silence", retry_after_s=silent_s)
                self._circuit.require(operation)
                return await self._asked(
                    operation, lambda: self._call(operation, parameters, decode, self._read_timeout_s), priority
                )
            except RETRIED as error:
                failed += 1
                if self._circuit.is_platform_away and not retry_policy.waits_for_platform:
                    raise
                # An open circuit says itself when the next call may go: to sleep longer is to find the API later.
                is_open = isinstance(error, api_errors.CircuitOpen)
                least_s = 0.0 if is_open else retry_policy.backoff.pause_s(failed, self._rng)
                pause_s = max(error.retry_after_s or 0.0, least_s)
                if failed >= retry_policy.max_attempts or pause_s > retry_policy.max_pause_s:
                    raise
            self.traffic.retries[operation] += 1
            await self._pause(pause_s)

    async def back_off(self) -> None:
        """Wait a moment before asking for less. Raises `Stopped`."""
        await self._pause(self._retry_policy.backoff.pause_s(1, self._rng))

    async def write(
        self, operation: str, parameters: Mapping[str, Any], decode: Callable[[bytes], T], timeout_s: float
    ) -> T:
        """Call an operation once, within a place of the budget that the caller holds: what it claims to send, it claims
        while it holds the place, so that no claim grows old waiting for one.

        Raises as `read` does; never sends twice, since only a look at the API can tell whether the first did it.
        `NotFromApi` whatever something on the way answers in the API's place.
        """
        with self._circuit.passage(operation):
            response = await self._send(operation, parameters, timeout_s)
            is_from_api = failures.is_from_api(response)
            if response.status_code != 200:
                failure = self._failure(operation, response)
                raise failure if is_from_api else failures.not_from_api(failure)
            if not is_from_api:
                raise api_errors.NotFromApi(operation, status=200)
            return self._answer(operation, response, decode)

    @property
    def is_waiting(self) -> bool:
        """Whether too many calls failed just before, and the next probe is not due."""
        return self._circuit.is_waiting

    @property
    def is_probing(self) -> bool:
        """Whether too many calls failed just before, so that the next one only finds out whether the API is back."""
        return self._circuit.is_probing

    @property
    def is_platform_away(self) -> bool:
        """Whether the address answers no connection, so that none is asked for but for a probe now and then."""
        return self._circuit.is_platform_away

    @property
    def can_probe(self) -> bool:
        """Whether a call could go at once."""
        return not self._stop.is_set() and self.rate_limiter.is_free

    async def probe(self) -> None:
        """Find out by the cheapest call whether the address answers. Raises as `read` does."""
        operation, parameters = PROBE
        async with self.rate_limiter.permit(Priority.PUSH):
            with self._circuit.watched(self._now_s()):
                await self._call(operation, parameters, msgspec.json.decode, PROBE_TIMEOUT_S)

    @property
    def _silence_s(self) -> float:
        """Seconds after which a read counts as hanging."""
        return max(LEAST_SILENCE_S, SILENCE * self._read_timeout_s)

    @property
    def _secrets(self) -> tuple[str, str]:
        """What no error may show."""
        return self._credentials.client_token, self._credentials.access_token

    async def aclose(self) -> None:
        """Close every connection, and leave the rest of the budget to a successor."""
        self._circuit.forget()
        await self._transport.aclose()
        await self.rate_limiter.hand_over()

    async def _asked(self, operation: str, call: Callable[[], Coroutine[Any, Any, T]], priority: Priority) -> T:
        """What a call brings, or another one that is sent beside it once it hangs; each within a place of the budget.

        Where a proxy or a router on the way keeps a connection open behind which nobody is left, a call hangs until its
        time is over, although the API may be back long before.
        """
        async with self.rate_limiter.permit(priority) as permit:
            permit.is_used = False
            with self._circuit.passage(operation):
                permit.is_used = True
                return await self._first_answer(operation, call, priority)

    async def _first_answer(self, operation: str, call: Callable[[], Coroutine[Any, Any, T]], priority: Priority) -> T:
        began_s, calls = self._now_s(), [asyncio.create_task(call())]
        try:
            done, _ = await asyncio.wait(calls, timeout=self._silence_s)
            if not done:
                self._circuit.note_silence(operation, began_s)
                calls.append(asyncio.create_task(self._ask_beside(call, priority)))
            return await first_outcome(calls)
        finally:
            for one in calls:
                one.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    async def _ask_beside(self, call: Callable[[], Coroutine[Any, Any, T]], priority: Priority) -> T:
        """What the first of several calls brings that does not hang, each over a new connection.

        There is one at a time for all that hang: an API that is only slow must not get many times as much to do.
        """
        while True:
            while self._circuit.is_platform_away:  # one probes for all
                await self._pause(self._silence_s)
            async with self._one_beside, self.rate_limiter.permit(priority):
                await self._transport.renew()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._silence_s):
                        return await call()

    async def _call(
        self, operation: str, parameters: Mapping[str, Any], decode: Callable[[bytes], T], timeout_s: float
    ) -> T:
        response = await self._send(operation, parameters, timeout_s)
        if response.status_code != 200:
            raise self._failure(operation, response)
        return self._answer(operation, response, decode)

    async def _send(self, operation: str, parameters: Mapping[str, Any], timeout_s: float) -> httpx.Response:
        """What whoever answered has answered."""
        if self._stop.is_set():
            raise errors.Stopped(f"{operation} was not sent: the service is stopping")
        credentials = self._credentials
        body = msgspec.json.encode(
            {
                "ClientToken": credentials.client_token,
                "AccessToken": credentials.access_token,
                "Client": credentials.client,
                **parameters,
            }
        )
        try:
            response = await self._transport.post(PATH_PREFIX + operation, body, timeout_s=timeout_s)
        except TimeoutError as error:
            raise api_errors.ConnectionLost(operation, f"no answer within {in_seconds(timeout_s)}") from error
        except httpx.HTTPError as error:
            raise failures.from_exception(operation, error, self._secrets) from error
        if failures.is_from_api(response):
            # A proxy's clock may be wrong by hours, and watermarks go by this one.
            self.server_clock.observe(response.headers.get("Date"))
        return response

    def _failure(self, operation: str, response: httpx.Response) -> api_errors.ApiError:
        now = self.server_clock.now() or wall_clock()
        error = failures.from_response(operation, response, now=now, secrets=self._secrets)
        if isinstance(error, HOLDING) and error.retry_after_s is not None:
            self.rate_limiter.be_silent(error.retry_after_s)
        return error

    def _answer(self, operation: str, response: httpx.Response, decode: Callable[[bytes], T]) -> T:
        if bodies.is_cut(response):
            raise failures.too_long(operation, response, self._secrets)
        try:
            return decode(response.content)
        except UNREADABLE as error:
            request_id = failures.request_id(response, self._secrets)
            raise api_errors.InvalidResponse(operation, str(error), status=200, request_id=request_id) from error

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop.wait(), seconds)
        except TimeoutError:
            return
        raise errors.Stopped("the service is stopping")
