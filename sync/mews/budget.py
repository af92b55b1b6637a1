"""The request budget of one access token: at most so many requests in any window of so many seconds.

The API counts a request when it arrives, which nobody here can see: somewhere between sending and the answer. So a
request holds its place from before it is sent until a whole window after its answer. Whatever the network does to
requests on their way, the server then never sees more than the limit in any window; the price is one round trip per
window, 0.7 % at 200 ms. (Counting from the sending instead lets a slow request and a fast one, a window later, meet.)
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

CLOCK_TOLERANCE = 1.001
"""A window lasts a thousandth longer here, so that a clock a little faster than the server's stays within the limit."""


class Budget:
    """A sliding-window log of requests, first come first served.

    `clock` gives seconds that only go forward; `pause` waits for some seconds, and may raise to end the waiting.
    """

    def __init__(
        self, limit: int, window_s: float, *, clock: Callable[[], float], pause: Callable[[float], Awaitable[None]]
    ) -> None:
        self._limit = limit
        self._window_s = window_s * CLOCK_TOLERANCE
        self._clock = clock
        self._pause = pause
        self._in_flight = 0
        self._free_at: deque[float] = deque()
        self._held_until = 0.0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a place among the requests of the current window, and hold it while the request is under way."""
        async with self._turn:
            while (wait_s := self._wait_s()) > 0:
                await self._pause(wait_s)
            self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._free_at.append(self._clock() + self._window_s)

    def hold(self, seconds: float) -> None:
        """Let nothing through for some seconds: the API's `Retry-After` concerns every request of the token."""
        self._held_until = max(self._held_until, self._clock() + seconds)

    def held_s(self) -> float:
        """Seconds for which nothing is let through."""
        return max(0.0, self._held_until - self._clock())

    def spent(self) -> int:
        """Places that are taken now."""
        now = self._clock()
        return self._in_flight + sum(1 for free_at in self._free_at if free_at > now)

    def _wait_s(self) -> float:
        now = self._clock()
        while self._free_at and self._free_at[0] <= now:
            self._free_at.popleft()
        if now < self._held_until:
            return self._held_until - now
        if self._in_flight + len(self._free_at) < self._limit:
            return 0.0
        # With every place in flight, the first is free no sooner than a whole window from now.
        return self._free_at[0] - now if self._free_at else self._window_s
