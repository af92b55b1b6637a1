"""The request budget of one access token: at most so many requests in any window of so many seconds.

The API counts a request when it arrives, which nobody here can see: somewhere between sending and the answer. So a
request holds its place from before it is sent until a whole window after its answer. Whatever the network does to
requests on their way, the server then never sees more than the limit in any window; the price is one round trip per
window, 0.7 % at 200 ms. (Counting from the sending instead lets a slow request and a fast one, a window later, meet.)

Writes go before reads, but for one place in so many: a push of hours must not keep the mirror's pulls waiting. And
while there is more to push than the budget lets through, pulls get no more than that share, since for whatever they
read now the push has to wait later. Audits come last, get a quarter of the budget at most, and wait for a push to end.

With a ledger, the budget is shared with the processes before and beside this one: see `sync.mews.allowance`. A cap is
shared by the tokens of an address: see `sync.mews.platform_cap`. A place there is asked for behind that of the budget.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from sync.mews.allowance import Allowance
from sync.mews.cap_wait import Turn, comes_in_time
from sync.mews.ledger import CLOCK_TOLERANCE, Ledger, Usage
from sync.mews.quota import RECHECK_AFTER_S, Quota, free_those_of

PUSHES_PER_PULL = 40
"""One place in 41 goes to a pull: half of the 5 % by which a push may take longer than its calls alone."""
AUDIT_SHARE = 4
"""An audit gets one place in four: the rest is kept free for what cannot wait."""
CAP_WAIT_S = 10.0
"""A place of the budget that waited so long for one under the cap is taken anew: what is written down ends after it."""


class Priority(IntEnum):
    """Who goes first."""

    PUSH = 0
    PULL = 1
    AUDIT = 2


class Caller(Protocol):
    """A connection's places under a cap."""

    @property
    def is_free(self) -> bool:
        """Whether there is a place now, without waiting."""

    def turn(self, priority: Priority) -> Turn:
        """For a place."""


@dataclass(slots=True)
class Permit:
    """A place among the requests of the current window. Whoever makes no request in it says so, and it is free again at
    once.
    """

    is_used: bool = False


class RateLimiter:
    """A sliding-window log of requests, first come first served among those of one priority.

    `limit`: as many calls may count within a window. `clock` gives seconds that only go forward; `pause` waits for some
    seconds, and may raise to end the waiting. Without a `ledger` the whole budget is this process's, and without
    `capped` there is no cap.
    """

    __slots__ = (
        "_allowance", "_backlogged", "_capped", "_clock", "_free_at", "_in_flight", "_of_audits", "_of_pulls", "_pause",
        "_silent_until", "_turn", "_window_s", "limit",
    )  # fmt: skip

    def __init__(
        self,
        limit: int,
        window_s: float,
        *,
        clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]],
        ledger: Ledger | None = None,
        capped: Caller | None = None,
    ) -> None:
        self.limit = limit
        self._window_s = window_s * CLOCK_TOLERANCE
        self._clock = clock
        self._pause = pause
        self._capped = capped
        self._in_flight = 0
        self._free_at: list[float] = []
        self._silent_until = 0.0
        self._turn = _PermitQueue()
        self._backlogged = 0
        self._allowance: Allowance | None = None
        if ledger is not None:
            self._allowance = Allowance(limit, self._window_s, ledger, usage=self._usage, clock=clock)
        self._of_pulls = Quota(max(1, limit // PUSHES_PER_PULL))
        self._of_audits: Quota | None = Quota(max(1, limit // AUDIT_SHARE))

    @contextmanager
    def backlogged(self) -> Iterator[None]:
        """While the block runs, there is more to push than the budget lets through."""
        self._backlogged += 1
        try:
            yield
        finally:
            self._backlogged -= 1

    def lift_audit_share(self) -> None:
        """Let audits have every place that no push or pull waits for, from now on."""
        self._of_audits = None

    @property
    def is_free(self) -> bool:
        """Whether a push could have a place now, without waiting for anything."""
        has_place = not self._turn.is_taken and self._wait_s() <= 0 and (self._capped is None or self._capped.is_free)
        return has_place and (self._allowance is None or self._allowance.has(self._counted))

    @asynccontextmanager
    async def permit(self, priority: Priority = Priority.PULL) -> AsyncIterator[Permit]:
        """Wait for a place among the requests of the current window, and hold it while the request is under way.

        Raises `DatabaseError` where a request cannot be written down beforehand.
        """
        permit = Permit()
        turn = None if self._capped is None else self._capped.turn(priority)
        try:
            # While no place under the cap comes, that of the budget is given back and taken anew, and the turn is kept.
            while True:
                await self._take(priority)
                try:
                    if turn is None or await self._is_granted(turn):
                        permit.is_used = True
                        yield permit
                        return
                finally:
                    self._free(priority, is_used=permit.is_used)
                turn.step_aside()
        finally:
            if turn is not None:
                turn.end(is_used=permit.is_used)

    async def _take(self, priority: Priority) -> None:
        """Wait for a place of the budget."""
        # Before its turn, and not in it, where pushes would wait behind it.
        while (wait_s := self._share_wait_s(priority)) > 0:
            await self._pause(wait_s)
        await self._turn.take(priority)
        try:
            await self._take_place()
            if share := self._share(priority):
                share.in_flight += 1
        finally:
            self._turn.pass_on()

    def _free(self, priority: Priority, *, is_used: bool) -> None:
        self._in_flight -= 1
        now = self._clock()
        free_at = now + self._window_s
        if share := self._share(priority):
            share.in_flight -= 1
        if is_used:
            self._free_at.append(free_at)
            if share:
                share.hold(free_at, now)
        elif self._allowance:
            self._allowance.give_back()

    async def _is_granted(self, turn: Turn) -> bool:
        """Whether a place under the cap came in time, and before a silence."""
        is_in_time = await comes_in_time(turn.ask(), CAP_WAIT_S, clock=self._clock, pause=self._pause)
        return is_in_time and not self.silent_s()

    @property
    def is_to_renew(self) -> bool:
        """Whether what is reserved runs out soon."""
        return self._allowance is not None and self._allowance.is_to_renew

    async def renew(self) -> None:
        """Keep what is reserved from running out while nothing is sent. Raises `DatabaseError`."""
        if self._allowance:
            await self._allowance.renew()

    async def hand_over(self) -> None:
        """Leave the rest of the budget to a successor; no request is sent any more."""
        if self._allowance:
            await self._allowance.hand_over()

    def be_silent(self, seconds: float) -> None:
        """Let nothing through for some seconds: the API's `Retry-After` concerns every request of the token."""
        self._silent_until = max(self._silent_until, self._clock() + seconds)

    def silent_s(self) -> float:
        """Seconds for which nothing is let through."""
        return max(0.0, self._silent_until - self._clock())

    def spent(self) -> int:
        """Places that are taken now."""
        return self._in_flight + len(self._usage().ages_s)

    async def _take_place(self) -> None:
        while True:
            if (wait_s := self._wait_s()) > 0:
                await self._pause(wait_s)
            elif self._has_allowance():
                break
            elif self._allowance:
                await self._allowance.refill()
                if not self._allowance.has(self._counted):
                    await self._pause(self._allowance.wait_s)
        self._in_flight += 1

    def _has_allowance(self) -> bool:
        return self._allowance is None or self._allowance.take(self._counted)

    @property
    def _counted(self) -> int:
        return self._in_flight + len(self._free_at)

    def _usage(self) -> Usage:
        now = self._clock()
        return Usage(self._in_flight, tuple(self._window_s + now - one for one in self._free_at if one > now))

    def _share(self, priority: Priority) -> Quota | None:
        """What requests of a priority may have of the budget; None: all of it."""
        return self._of_pulls if priority is Priority.PULL else self._of_audits if priority is Priority.AUDIT else None

    def _share_wait_s(self, priority: Priority) -> float:
        """Seconds until requests of a priority may look again for a place; 0 if they may have one."""
        if priority is Priority.AUDIT and self._backlogged:
            return RECHECK_AFTER_S
        share = self._share(priority)
        if share is None or (priority is Priority.PULL and not self._backlogged):
            return 0.0
        return min(RECHECK_AFTER_S, share.wait_s(self._clock()))

    def _wait_s(self) -> float:
        now = self._clock()
        free_those_of(self._free_at, now)
        if now < self._silent_until:
            return self._silent_until - now
        if self._counted < self.limit:
            return 0.0
        # With every place in flight, the first is free no sooner than a whole window from now.
        return self._free_at[0] - now if self._free_at else self._window_s


class _PermitQueue:
    """Held by whoever waits for the next place. At rest it is empty: each deque takes 700 bytes of a token."""

    __slots__ = ("_pushes_in_a_row", "_waiting", "is_taken")

    def __init__(self) -> None:
        self.is_taken = False
        self._waiting: dict[Priority, deque[asyncio.Future[None]]] = {}
        self._pushes_in_a_row = 0

    async def take(self, priority: Priority) -> None:
        if not self.is_taken:
            self.is_taken = True
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(priority, deque()).append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():
                self.pass_on()  # the turn came in the same moment, and the next one waits for it
            elif mine in (waiting := self._waiting.get(priority, deque())):
                waiting.remove(mine)  # else it stays for as long as the one before it waits
            raise

    def pass_on(self) -> None:
        pushes, pulls, audits = (self._still_waiting(priority) for priority in Priority)
        if pushes and not (pulls and self._pushes_in_a_row >= PUSHES_PER_PULL):
            self._pushes_in_a_row += 1
            pushes.popleft().set_result(None)
        elif pulls:
            self._pushes_in_a_row = 0
            pulls.popleft().set_result(None)
        elif audits:
            audits.popleft().set_result(None)
        else:
            self.is_taken = False
            self._waiting = {}  # what was emptied keeps the room that it had

    def _still_waiting(self, priority: Priority) -> deque["asyncio.Future[None]"] | None:
        """Those of a priority, if there are any, without the ones at the head who have just given up."""
        waiting = self._waiting.get(priority)
        while waiting and waiting[0].cancelled():
            del waiting[0]
        return waiting or self._waiting.pop(priority, None)
