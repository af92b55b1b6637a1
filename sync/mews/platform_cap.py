"""What all tokens of one platform address may ask of it together: so many calls in flight, and so many in any second.

The vendor documents a budget for each token and none for who has thousands, and blocks who behaves badly. As in a
token's budget, a call holds its place from before it is sent until a second after its answer, so that the server never
sees more, whatever the network does to calls on their way.

Writes go before reads and reads before audits, but whoever was passed over often enough goes next; among those of one
priority connections take turns. A connection may have a quarter as many calls in flight as could begin beside them, and
as many within a second: so some whose calls hang, or that read all their past, keep nobody out.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from sync.mews.rate_limiter import CLOCK_TOLERANCE, Priority

SECOND_S = 1.0 * CLOCK_TOLERANCE
IN_FLIGHT_PER_FREE = 1 / 4
PASSED_OVER_AT_MOST = 8
"""So many of higher priority go before one that waits, and then it goes."""

Granted = asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class PlatformLimits:
    """Calls in flight, and calls in any second, of all processes that work on a database together."""

    in_flight: int
    per_s: int


class PlatformCap:
    """This process's `part` of the limits of one address. `clock` gives the event loop's seconds."""

    def __init__(self, limits: PlatformLimits, clock: Callable[[], float], part: float = 1.0) -> None:
        self.waiting = self.in_flight = 0
        self._limits = limits
        self._part = part
        self._clock = clock
        self._answered: deque[tuple[float, CappedCaller]] = deque()
        self._turns: dict[Priority, dict[CappedCaller, None]] = {priority: {} for priority in Priority}
        self._passed_over = Counter[Priority]()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def limits(self) -> PlatformLimits:
        """What this process may have of them now; never nothing, or its connections would stand still."""
        in_flight, per_s = self._limits.in_flight * self._part, self._limits.per_s * self._part
        return PlatformLimits(max(1, int(in_flight)), max(1, int(per_s)))

    def take_part(self, part: float) -> None:
        """Have this share of the limits from now on."""
        self._part = part
        self.grant()

    def may_have_one(self, caller: "CappedCaller") -> bool:
        """Whether a connection could have a place, if nobody waited."""
        self._free_answered()
        limits = self.limits
        free, free_of_second = limits.in_flight - self.in_flight, limits.per_s - self.in_flight - len(self._answered)
        return caller.in_flight < free * IN_FLIGHT_PER_FREE and caller.in_flight + caller.answered < free_of_second

    def ask(self, caller: "CappedCaller", priority: Priority) -> None:
        """Take note that somebody waits."""
        self.waiting += 1
        self._turns[priority].setdefault(caller)
        self.grant()

    def withdraw(self, caller: "CappedCaller", priority: Priority) -> None:
        """Take note that one waits no more."""
        self.waiting -= 1
        if not caller.queues[priority]:
            self._turns[priority].pop(caller, None)

    def free(self, caller: "CappedCaller", *, is_used: bool) -> None:
        """A call is over; without one in it, its place is free at once."""
        self.in_flight -= 1
        caller.in_flight -= 1
        if is_used:
            caller.answered += 1
            self._answered.append((self._clock() + SECOND_S, caller))
        self.grant()

    def grant(self) -> None:
        """Give away what is free, and look again when more is."""
        while self.waiting and (found := self._next()) is not None:
            priority, caller = found
            granted = caller.queues[priority].popleft()
            del self._turns[priority][caller]
            if caller.queues[priority]:
                self._turns[priority][caller] = None  # behind the others
            self.waiting -= 1
            self.in_flight += 1
            caller.in_flight += 1
            self._passed_over.update(other for other in Priority if other > priority and self._turns[other])
            self._passed_over[priority] = 0
            granted.set_result(None)
        if self.waiting and self._answered and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, self._answered[0][0] - self._clock()), self._grant_later)

    def _grant_later(self) -> None:
        self._timer = None
        self.grant()

    def _next(self) -> "tuple[Priority, CappedCaller] | None":
        for priority in sorted(Priority, key=lambda one: self._passed_over[one] < PASSED_OVER_AT_MOST):
            for caller in self._turns[priority]:
                if self.may_have_one(caller):
                    return priority, caller
        return None

    def _free_answered(self) -> None:
        now = self._clock()
        while self._answered and self._answered[0][0] <= now:
            _, caller = self._answered.popleft()
            caller.answered -= 1


class CappedCaller:
    """One connection's places under a cap, and who waits for one."""

    def __init__(self, cap: PlatformCap) -> None:
        self.in_flight = self.answered = 0
        self.queues: dict[Priority, deque[Granted]] = {priority: deque() for priority in Priority}
        self._cap = cap

    @property
    def is_free(self) -> bool:
        """Whether there is a place now, without waiting."""
        return not self._cap.waiting and self._cap.may_have_one(self)

    def ask(self, priority: Priority) -> Granted:
        """A place: the future is done once it is given, perhaps at once, and then it is to be freed."""
        granted: Granted = asyncio.get_running_loop().create_future()
        self.queues[priority].append(granted)
        self._cap.ask(self, priority)
        return granted

    def withdraw(self, priority: Priority, granted: Granted) -> None:
        """Want it no more, whether it was given meanwhile or not."""
        if granted.done():
            self.free(is_used=False)
        else:
            self.queues[priority].remove(granted)
            self._cap.withdraw(self, priority)

    def free(self, *, is_used: bool) -> None:
        """Give a place back."""
        self._cap.free(self, is_used=is_used)
