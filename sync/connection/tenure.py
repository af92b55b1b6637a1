"""Whether this process may work for a connection: what it knows of no other having taken it.

A replica trusts itself until shortly before others may take it for dead, counted from before its last sign of life.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine sleeps, where there is such a clock: others go on too."""


def now_s() -> float:
    """Seconds that only go forward, also through a machine's sleep."""
    return time.clock_gettime(CLOCK)


@dataclass(slots=True)
class Trust:
    """Until when, by `clock`, the others take this process for alive; of all its connections.

    `lasts_s`: so long from before a sign of life on. `lapses`: how often it was over before the next one came.
    """

    until_s: float = -math.inf
    lasts_s: float = math.inf
    lapses: int = 0
    clock: Callable[[], float] = now_s

    def is_good(self) -> bool:
        """Whether it is so now."""
        return self.clock() < self.until_s

    def extend(self, began_s: float) -> None:
        """Take a sign of life that others see; `began_s`: an instant before it was given."""
        self.lapses += began_s >= self.until_s
        self.until_s = began_s + self.lasts_s

    @property
    def term(self) -> int | None:
        """The same for as long as it is good without a gap; None where it is not."""
        return self.lapses if self.is_good() else None


@dataclass(slots=True)
class Tenure:
    """One connection's time with its owner. `epoch` None: whoever works without owning it, as a single cycle does.

    Nothing but politeness rests on it: what is sent twice or lost is decided by claims and by the ledger of calls.
    """

    process: UUID | None = None
    epoch: int | None = None
    trust: Trust = field(default_factory=lambda: Trust(math.inf))
    is_over: bool = False

    def is_trusted(self) -> bool:
        """Whether anything may be asked of the API, or sent to it."""
        return not self.is_over and self.trust.is_good()
