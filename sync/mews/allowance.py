"""What a process may spend of a token's budget: calls that it has written down beforehand, where others see them.

A process may be killed between any two calls, and others may use the same token at the same time. So calls are reserved
in a ledger, a few at a time, before they are made. Whoever comes after a crash, or works beside, takes what others
have reserved for spent. A reservation ends by itself: a process that cannot write any more begins no calls.

A process that others see alive spends what it has reserved only while they do: see `Ledger.term`. One that has been at
ease for a while reserves a few calls that stand: as long as no more of its calls count at once, it spends them again
and again, and writes nothing. So a hotel of a replica with nothing to do costs a few writes a day.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from sync.core.errors import Stopped, VoucherSyncError
from sync.mews.ledger import Entry, Ledger, Others

PORTIONS = 10
"""A reservation is at most a tenth of the budget: a crash takes what is left of it from a successor, for a while."""
MAX_PORTION = 1000
"""Of a budget so large that it never waits."""
FIRST_PORTIONS = 40
"""What is reserved at ease is a fortieth of the budget; each time that it is used up within a second, twice as much."""
AT_EASE_AFTER_S = 5.0
STANDS_AFTER_S = 60.0
"""What stands is reserved no sooner: one process after another that crashes at its start would take all there is."""
ASK_AGAIN_S = 1.0
LEAST_PAUSE_S = 0.1
"""Between two looks at what others leave, each of which writes."""
HAND_OVER_S = 2.0
"""A ledger that does not answer within this time holds up no stop; a crash costs a successor no more."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Usage:
    """The calls of this process that the API may count now: those under way, and how long ago each other one ended."""

    in_flight: int
    ages_s: tuple[float, ...]


class Allowance:
    """The calls that one process has written down and not begun. `usage` tells what it has spent.

    `window_s` is how long a call counts after its end.
    """

    __slots__ = (
        "_ahead_from_s", "_began_s", "_cap", "_clock", "_decided_s", "_ends_s", "_good_for_s", "_granted",
        "_has_written", "_ledger", "_limit", "_others", "_portion", "_stands", "_term", "_unspent", "_usage",
        "_will_stand", "_window_s", "_writing",
    )  # fmt: skip

    def __init__(
        self, limit: int, window_s: float, ledger: Ledger, *, usage: Callable[[], Usage], clock: Callable[[], float]
    ) -> None:
        self._limit = limit
        self._window_s = window_s
        self._ledger = ledger
        self._usage = usage
        self._clock = clock
        self._unspent = 0
        self._cap = limit
        self._portion = 0
        self._began_s = clock()
        self._stands = self._will_stand = False
        self._good_for_s = ledger.good_for_s
        self._term: int | None = None
        self._decided_s = self._ends_s = self._ahead_from_s = -math.inf
        self._others = Others()
        self._granted = 0
        self._writing: asyncio.Task[None] | None = None
        self._has_written = False

    def has(self, counted: int) -> bool:
        """Whether a call may begin, beside so many that the API may count."""
        left, cap = (math.inf, self._portion) if self._stands else (self._unspent, self._cap)
        is_good = self._ledger.now_s() < self._ends_s and self._term is not None and self._term == self._ledger.term
        return left > 0 and counted < cap and is_good

    def take(self, counted: int) -> bool:
        """Whether a call may begin, beside so many that the API may count; reserves the next ones ahead."""
        if not self.has(counted):
            return False
        if self._stands:
            if counted + 1 >= self._portion:
                self._begin_writing()
            return True
        self._unspent -= 1
        if self._unspent <= self._portion // 2 and self._clock() >= self._ahead_from_s:
            self._begin_writing()
        return True

    def give_back(self) -> None:
        """A call that was taken was not made."""
        self._unspent += 1

    async def refill(self) -> None:
        """Reserve calls, as many as others leave. Raises `DatabaseError`; `Stopped` where they are handed over."""
        self._begin_writing()
        if (writing := self._writing) is not None:
            await asyncio.wait([writing])
            # Its cancellation would end whoever waits here, as what probes for all connections of an address.
            if writing.cancelled():
                raise Stopped("nothing was reserved: the connection is closed")
            writing.result()

    async def renew(self) -> None:
        """Reserve anew before the reservation ends, so that a call after a quiet time need not wait."""
        if self.is_to_renew:
            await self.refill()

    @property
    def is_to_renew(self) -> bool:
        """Whether the half of its time is over."""
        return self._ends_s - self._ledger.now_s() < self._good_for_s / 2

    @property
    def wait_s(self) -> float:
        """Seconds after which others may leave more than they last did."""
        return max(LEAST_PAUSE_S, min(ASK_AGAIN_S, self._others.wait_s))

    async def hand_over(self) -> None:
        """Write down what is spent, and that nothing more will be: a successor loses none of the rest."""
        if not self._has_written:
            return
        try:
            async with asyncio.timeout(HAND_OVER_S):
                if self._writing is not None:
                    self._writing.cancel()
                    await asyncio.gather(self._writing, return_exceptions=True)
                await self._ledger.write(self._close)
        except (VoucherSyncError, TimeoutError) as error:
            log.debug("budget_not_handed_over", error=str(error) or "no answer")

    def _begin_writing(self) -> None:
        """Once for all who ask meanwhile."""
        if self._writing is None or self._writing.done():
            self._has_written = True
            self._writing = asyncio.create_task(self._write())
            self._writing.add_done_callback(self._end_writing)

    def _end_writing(self, writing: asyncio.Task[None]) -> None:
        """What was reserved ahead in vain is met again by the call that needs it, which raises it."""
        if not writing.cancelled() and (error := writing.exception()):
            log.debug("not_reserved", error=str(error))
        if self._writing is writing:
            self._writing = None  # what has ended keeps a kilobyte

    async def _write(self) -> None:
        began_s, term = self._ledger.now_s(), self._ledger.term
        await self._ledger.write(self._decide)
        self._term = term
        # Of what was left, calls may have begun since: the new reservation counts them.
        self._unspent += self._granted
        self._stands = self._will_stand
        self._good_for_s = self._ledger.standing_s if self._stands else self._ledger.good_for_s
        self._ends_s = began_s + self._good_for_s
        self._ahead_from_s = -math.inf if self._unspent > self._portion // 2 else self._clock() + ASK_AGAIN_S

    def _decide(self, others: Others) -> Entry:
        usage, self._others = self._usage(), others
        counted = usage.in_flight + len(usage.ages_s)
        if self._stands:  # what of it may begin before the new entry is written counts in both
            self._unspent, self._stands = max(0, self._portion - counted), False
        fair = max(1, self._limit // (1 + others.alive))
        share = fair if others.waiting else self._limit
        self._cap = min(share, self._limit - others.taken)
        since_s = self._clock() - self._decided_s
        self._portion = self._next_portion(share, since_s)
        self._will_stand = since_s > AT_EASE_AFTER_S and self._may_stand(counted)
        if self._will_stand:
            self._unspent, self._granted = min(self._unspent, self._portion - counted), 0
            return Entry(self._portion, (), is_waiting=False, good_for_s=self._ledger.standing_s)
        # What is free again before a portion is used up, at the pace of the budget, may be reserved now.
        soon_s = self._window_s - self._window_s / PORTIONS
        spent = usage.in_flight + sum(1 for age_s in usage.ages_s if age_s < soon_s)
        reserved = max(0, min(self._portion, self._cap - spent))
        # Given up before it is written that it is: until then it could still be spent.
        self._unspent = min(self._unspent, reserved)
        self._granted = reserved - self._unspent
        return Entry(usage.in_flight + reserved, usage.ages_s, is_waiting=not reserved and spent < fair)

    def _may_stand(self, counted: int) -> bool:
        """Whether a portion covers all that counts, and as much again, for whoever has lived for a while."""
        is_steady = self._clock() - self._began_s >= STANDS_AFTER_S and not self._others.waiting
        return is_steady and 2 * counted <= self._portion <= self._cap

    def _next_portion(self, share: int, since_s: float) -> int:
        self._decided_s, portion = self._clock(), self._portion
        if since_s < ASK_AGAIN_S:
            portion *= 2
        elif since_s > AT_EASE_AFTER_S:
            portion = self._limit // FIRST_PORTIONS
        return max(1, min(portion, share // PORTIONS, MAX_PORTION))

    def _close(self, _others: Others) -> Entry:
        self._unspent, self._stands, usage = 0, False, self._usage()
        return Entry(usage.in_flight, usage.ages_s, is_waiting=False)
