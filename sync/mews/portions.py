"""How many calls a process reserves at once, and which of its calls may begin by that: pure decisions.

What is reserved is spent call by call. A process that has been at ease for a while reserves a few calls that stand: as
long as no more of its calls count at once, it spends them again and again, and writes nothing. So a hotel of a replica
with nothing to do costs a few writes a day.
"""

import math

from sync.mews.ledger import Entry, Others, Usage

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


class Portions:
    """What one process has reserved: a portion that `stands`, or calls that are `_unspent`.

    `decide` says what is to be written down, and gives up what of the portion before is not in it; once that is
    written, `begin` lets it be spent. Instants are seconds of a clock that only goes forward.
    """

    __slots__ = (
        "_ahead_from_s", "_began_s", "_cap", "_decided_s", "_granted", "_limit", "_portion", "_standing_s", "_unspent",
        "_will_stand", "_window_s", "stands",
    )  # fmt: skip

    def __init__(self, limit: int, window_s: float, standing_s: float, now_s: float) -> None:
        self.stands = self._will_stand = False
        self._limit = self._cap = limit
        self._window_s = window_s
        self._standing_s = standing_s
        self._portion = self._unspent = self._granted = 0
        self._began_s = now_s
        self._decided_s = self._ahead_from_s = -math.inf

    def has(self, counted: int) -> bool:
        """Whether a call may begin, beside so many that the API may count."""
        if self.stands:
            return counted < self._portion
        return self._unspent > 0 and counted < self._cap

    def take(self) -> None:
        """A call begins."""
        if not self.stands:
            self._unspent -= 1

    def give_back(self) -> None:
        """A call that was taken was not made."""
        self._unspent += 1

    def is_low(self, counted: int, now_s: float) -> bool:
        """Whether more is to be reserved ahead, with a call that has begun beside so many."""
        if self.stands:
            return counted + 1 >= self._portion
        return self._unspent <= self._portion // 2 and now_s >= self._ahead_from_s

    def decide(self, usage: Usage, others: Others, now_s: float) -> Entry:
        """What is to be written down, beside what others have; asked for several times, the last answer counts."""
        counted = usage.in_flight + len(usage.ages_s)
        if self.stands:  # what of it may begin before the new entry is written counts in both
            self._unspent, self.stands = max(0, self._portion - counted), False
        fair = max(1, self._limit // (1 + others.alive))
        share = fair if others.waiting else self._limit
        self._cap = min(share, self._limit - others.taken)
        since_s, self._decided_s = now_s - self._decided_s, now_s
        self._portion = self._next_portion(share, since_s)
        is_steady = now_s - self._began_s >= STANDS_AFTER_S and since_s > AT_EASE_AFTER_S and not others.waiting
        # A portion that stands covers all that counts, and as much again.
        self._will_stand = is_steady and 2 * counted <= self._portion <= self._cap
        if self._will_stand:
            self._unspent, self._granted = min(self._unspent, self._portion - counted), 0
            return Entry(self._portion, (), is_waiting=False, good_for_s=self._standing_s)
        # What is free again before a portion is used up, at the pace of the budget, may be reserved now.
        soon_s = self._window_s - self._window_s / PORTIONS
        spent = usage.in_flight + sum(1 for age_s in usage.ages_s if age_s < soon_s)
        reserved = max(0, min(self._portion, self._cap - spent))
        # Given up before it is written that it is: until then it could still be spent.
        self._unspent = min(self._unspent, reserved)
        self._granted = reserved - self._unspent
        return Entry(usage.in_flight + reserved, usage.ages_s, is_waiting=not reserved and spent < fair)

    def begin(self, now_s: float) -> None:
        """What was decided last is written: it may be spent."""
        # Of what was left, calls may have begun since: the new reservation counts them.
        self._unspent += self._granted
        self.stands = self._will_stand
        self._ahead_from_s = -math.inf if self._unspent > self._portion // 2 else now_s + ASK_AGAIN_S

    def give_up(self) -> None:
        """Let nothing of it begin any more."""
        self._unspent, self.stands = 0, False

    def _next_portion(self, share: int, since_s: float) -> int:
        portion = self._portion
        if since_s < ASK_AGAIN_S:
            portion *= 2
        elif since_s > AT_EASE_AFTER_S:
            portion = self._limit // FIRST_PORTIONS
        return max(1, min(portion, share // PORTIONS, MAX_PORTION))
