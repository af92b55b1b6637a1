"""What a process may spend of a token's budget: calls that it has written down beforehand, where others see them.

A process may be killed between any two calls, and others may use the same token at the same time. So calls are reserved
in a ledger, a few at a time, before they are made. Whoever comes after a crash, or works beside, takes what others
have reserved for spent. A reservation ends by itself: a process that cannot write any more begins no calls.

A process that others see alive spends what it has reserved only while they do: see `Ledger.term`. How many calls are
reserved at once, and whether they stand, says `sync.mews.portions`.
"""

import asyncio
import math
from collections.abc import Callable

from sync.core.errors import Stopped, VoucherSyncError
from sync.logger import structlog
from sync.mews.ledger import Entry, Ledger, Others, Usage
from sync.mews.portions import ASK_AGAIN_S, Portions

LEAST_PAUSE_S = 0.1
"""Between two looks at what others leave, each of which writes."""
HAND_OVER_S = 2.0
"""A ledger that does not answer within this time holds up no stop; a crash costs a successor no more."""

log = structlog.get_logger()


class Allowance:
    """The calls that one process has written down and not begun. `usage` tells what it has spent.

    `window_s` is how long a call counts after its end.
    """

    __slots__ = (
        "_clock", "_ends_s", "_good_for_s", "_has_written", "_ledger", "_others", "_portions", "_term", "_usage",
        "_writing",
    )  # fmt: skip

    def __init__(
        self, limit: int, window_s: float, ledger: Ledger, *, usage: Callable[[], Usage], clock: Callable[[], float]
    ) -> None:
        self._ledger = ledger
        self._usage = usage
        self._clock = clock
        self._portions = Portions(limit, window_s, ledger.standing_s, clock())
        self._good_for_s = ledger.good_for_s
        self._term: int | None = None
        self._ends_s = -math.inf
        self._others = Others()
        self._writing: asyncio.Task[None] | None = None
        self._has_written = False

    def has(self, counted: int) -> bool:
        """Whether a call may begin, beside so many that the API may count."""
        is_good = self._ledger.now_s() < self._ends_s and self._term is not None and self._term == self._ledger.term
        return is_good and self._portions.has(counted)

    def take(self, counted: int) -> bool:
        """Whether a call may begin, beside so many that the API may count; reserves the next ones ahead."""
        if not self.has(counted):
            return False
        self._portions.take()
        if self._portions.is_low(counted, self._clock()):
            self._begin_writing()
        return True

    def give_back(self) -> None:
        """A call that was taken was not made."""
        self._portions.give_back()

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
        self._portions.begin(self._clock())
        self._good_for_s = self._ledger.standing_s if self._portions.stands else self._ledger.good_for_s
        self._ends_s = began_s + self._good_for_s

    def _decide(self, others: Others) -> Entry:
        self._others = others
        return self._portions.decide(self._usage(), others, self._clock())

    def _close(self, _others: Others) -> Entry:
        self._portions.give_up()
        usage = self._usage()
        return Entry(usage.in_flight, usage.ages_s, is_waiting=False)
