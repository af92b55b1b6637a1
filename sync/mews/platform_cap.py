"""What all tokens of one platform address may ask of it together: so many calls in flight, and so many in any second.

The vendor documents a budget for each token and none for who has thousands, and blocks who behaves badly. As in a
token's budget, a call holds its place from before it is sent until a second after its answer, so that the server never
sees more, whatever the network does to calls on their way.

Writes go before reads and reads before audits, but whoever was passed over often enough goes next; among those of one
priority connections take turns. A connection may have a quarter as many calls in flight as could begin beside them, and
as many within a second: so one that reads all its past keeps nobody out. Those whose calls hang share a half of all
places, with the same rule within it, until one of their calls is answered in time: however many they are, the others
have the rest.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from operator import itemgetter

from sync.mews.ledger import CLOCK_TOLERANCE
from sync.mews.rate_limiter import Priority

SECOND_S = 1.0 * CLOCK_TOLERANCE
IN_FLIGHT_PER_FREE = 1 / 4
PASSED_OVER_AT_MOST = 8
"""So many of higher priority go before one that waits, and then it goes."""
HANGS_AFTER_S = 3.0
"""A call without an answer for so long; a second one is sent beside it only later, and finds this known."""
OF_HANGING = 2
"""Connections whose calls hang have one in so many of the places, and one at least."""

Granted = asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class PlatformLimits:
    """Calls in flight, and calls in any second, of all processes that work on a database together.

    `in_process`: calls in flight that this process has room for, whatever its part.
    """

    in_flight: int
    per_s: int
    in_process: float = math.inf


class PlatformCap:
    """This process's `part` of the limits of one address. `clock` gives the event loop's seconds."""

    def __init__(self, limits: PlatformLimits, clock: Callable[[], float], part: float = 1.0) -> None:
        self.waiting = self.in_flight = 0
        self._limits = limits
        self._part = part
        self._clock = clock
        self._of_hanging = 0
        self._begun: deque[tuple[float, CapTurn, int]] = deque()
        self._answered: deque[tuple[float, CappedCaller]] = deque()
        self._queues: dict[tuple[Priority, bool], dict[CappedCaller, int]]
        self._queues = {(priority, hangs): {} for priority in Priority for hangs in (False, True)}
        self._numbers = count()
        self._passed_over = Counter[Priority]()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def limits(self) -> PlatformLimits:
        """What this process may have of them now; never nothing, or its connections would stand still."""
        in_flight = min(self._limits.in_flight * self._part, self._limits.in_process)
        per_s = self._limits.per_s * self._part
        return PlatformLimits(max(1, int(in_flight)), max(1, int(per_s)))

    def take_part(self, part: float) -> None:
        """Have this share of the limits from now on."""
        self._part = part
        self.grant()

    def may_have_one(self, caller: "CappedCaller") -> bool:
        """Whether a connection could have a place, if nobody waited."""
        self._look()
        return self._has_place(caller)

    def ask(self, turn: "CapTurn") -> None:
        """Take note that somebody waits."""
        self.waiting += 1
        turn.caller.turns.setdefault(turn.priority, {}).setdefault(turn)
        self._queue(turn.caller, turn.priority)
        self.grant()

    def leave(self, turn: "CapTurn") -> None:
        """Take note that somebody waits no more, and has no turn."""
        caller, priority = turn.caller, turn.priority
        turns = caller.turns.get(priority, {})
        turns.pop(turn, None)
        if not turns:
            caller.drop(priority)
            self._queues[priority, caller.hangs].pop(caller, None)

    def free(self, turn: "CapTurn", *, is_used: bool) -> None:
        """A call is over; without one in it, its place is free at once."""
        self._look()
        caller = turn.caller
        self._count(caller, -1)
        turn.is_in_flight = False
        if is_used:
            caller.answered += 1
            self._answered.append((self._clock() + SECOND_S, caller))
        if turn.hangs:
            caller.hanging -= 1
        elif is_used and not caller.hanging:
            self._note_hangs(caller, False)
        self.grant()

    def grant(self) -> None:
        """Give away what is free, and look again when more is."""
        while self.waiting and (turn := self._next()) is not None:
            caller, priority = turn.caller, turn.priority
            del caller.turns[priority][turn]
            del self._queues[priority, caller.hangs][caller]
            if caller.turns[priority]:
                self._queue(caller, priority)  # behind the others
            else:
                caller.drop(priority)
            self.waiting -= 1
            self._count(caller, +1)
            self._begun.append((self._clock() + HANGS_AFTER_S, turn, turn.begin()))
            self._passed_over.update(other for other in Priority if other > priority and self._is_asked_for(other))
            self._passed_over[priority] = 0
        if self.waiting and self._answered and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, self._answered[0][0] - self._clock()), self._grant_later)

    def _grant_later(self) -> None:
        self._timer = None
        self.grant()

    def _queue(self, caller: "CappedCaller", priority: Priority) -> None:
        """Have a connection wait behind the others, unless it waits already."""
        self._queues[priority, caller.hangs].setdefault(caller, next(self._numbers))

    def _is_asked_for(self, priority: Priority) -> bool:
        return any(self._queues[priority, hangs] for hangs in (False, True))

    def _next(self) -> "CapTurn | None":
        self._look()
        # Whom there is no place for is not asked: there may be thousands.
        kinds = [hangs for hangs in (False, True) if min(self._free(hangs=hangs)) > 0]
        for priority in sorted(Priority, key=lambda one: self._passed_over[one] < PASSED_OVER_AT_MOST):
            firsts = [first for hangs in kinds if (first := self._first(priority, hangs=hangs)) is not None]
            if firsts:
                return min(firsts)[1]
        return None

    def _first(self, priority: Priority, *, hangs: bool) -> "tuple[int, CapTurn] | None":
        """Of those that hang, or of the others: who is to have the next place, behind its number."""
        for caller, number in self._queues[priority, hangs].items():
            if self._has_place(caller) and (turn := caller.first(priority)) is not None:
                return number, turn
        return None

    def _has_place(self, caller: "CappedCaller") -> bool:
        free, free_of_second = self._free(hangs=caller.hangs)
        return caller.in_flight < free * IN_FLIGHT_PER_FREE and caller.in_flight + caller.answered < free_of_second

    def _free(self, *, hangs: bool) -> tuple[int, int]:
        """Places for those that hang, or for the others: in flight, and of this second."""
        limits = self.limits
        free, free_of_second = limits.in_flight - self.in_flight, limits.per_s - self.in_flight - len(self._answered)
        if hangs:
            room = min(limits.in_flight, limits.per_s)  # each call under way counts against both
            free = min(free, -(-room // OF_HANGING) - self._of_hanging)
        return free, free_of_second

    def _count(self, caller: "CappedCaller", change: int) -> None:
        self.in_flight += change
        caller.in_flight += change
        self._of_hanging += change if caller.hangs else 0

    def _note_hangs(self, caller: "CappedCaller", hangs: bool) -> None:
        if caller.hangs is hangs:
            return
        for priority in caller.turns:
            number = self._queues[priority, caller.hangs].pop(caller)
            queue = self._queues[priority, hangs] | {caller: number}
            self._queues[priority, hangs] = dict(sorted(queue.items(), key=itemgetter(1)))  # it keeps its turn
        caller.hangs = hangs
        self._of_hanging += caller.in_flight if hangs else -caller.in_flight

    def _look(self) -> None:
        """What has become of calls by now: whose place of its second is free again, and which hang."""
        now = self._clock()
        while self._answered and self._answered[0][0] <= now:
            _, caller = self._answered.popleft()
            caller.answered -= 1
        while self._begun and self._begun[0][0] <= now:
            _, turn, number = self._begun.popleft()
            if turn.is_in_flight and turn.begun == number:  # else it has stepped aside since, and begun anew
                turn.hangs = True
                turn.caller.hanging += 1
                self._note_hangs(turn.caller, True)


class CappedCaller:
    """One connection's places under a cap, and who waits for one.

    `turns`: of each priority of which there are any. `hanging`: its calls without an answer for long; `hangs`: whether
    it has such, or had no other answer since.
    """

    __slots__ = ("_cap", "answered", "hanging", "hangs", "in_flight", "turns")

    def __init__(self, cap: PlatformCap) -> None:
        self.in_flight = self.answered = self.hanging = 0
        self.hangs = False
        self.turns: dict[Priority, dict[CapTurn, None]] = {}
        self._cap = cap

    @property
    def is_free(self) -> bool:
        """Whether there is a place now, without waiting."""
        return not self._cap.waiting and self._cap.may_have_one(self)

    def turn(self, priority: Priority) -> "CapTurn":
        """For a place."""
        return CapTurn(self._cap, self, priority)

    def drop(self, priority: Priority) -> None:
        """Nobody of a priority waits any more."""
        # Made anew: a dict that is emptied keeps the room that it had, of each of thousands.
        self.turns = {other: turns for other, turns in self.turns.items() if other is not priority}

    def first(self, priority: Priority) -> "CapTurn | None":
        """Who of a priority is to have the next place; None if all have stepped aside."""
        return next((turn for turn in self.turns.get(priority, ()) if turn.is_waiting), None)


class CapTurn:
    """One call's turn for a place, and the place once it has it. It keeps its turn from its first asking on."""

    def __init__(self, cap: PlatformCap, caller: CappedCaller, priority: Priority) -> None:
        self.caller = caller
        self.priority = priority
        self.is_waiting = self.is_in_flight = self.hangs = False
        self.begun = 0
        self._cap = cap
        self._granted: Granted

    def ask(self) -> Granted:
        """A place: the future is done once it is given, perhaps at once."""
        self._granted = asyncio.get_running_loop().create_future()
        self.is_waiting = True
        self._cap.ask(self)
        return self._granted

    def begin(self) -> int:
        """Take a place that is given; how often it was given one."""
        self.is_waiting, self.is_in_flight, self.hangs = False, True, False
        self.begun += 1
        self._granted.set_result(None)
        return self.begun

    def step_aside(self) -> None:
        """Want no place until it is asked for again, which comes before those that came later."""
        if self.is_in_flight:
            self._cap.free(self, is_used=False)
        elif self.is_waiting:
            self.is_waiting = False
            self._cap.waiting -= 1

    def end(self, *, is_used: bool = False) -> None:
        """Want no place any more; `is_used`: there was a request in it."""
        if self.is_in_flight:
            self._cap.free(self, is_used=is_used)
            return
        self.step_aside()
        self._cap.leave(self)
