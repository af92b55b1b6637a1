"""What the processes of one token tell each other of their calls, in a ledger that all of them can write."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

CLOCK_TOLERANCE = 1.001
"""Whatever is waited for lasts a thousandth longer here: a clock a little faster than others', as the server's, stays
within the limit and frees nothing too early."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The calls of this process that the API may count now: those under way, and how long ago each other one ended."""

    in_flight: int
    ages_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Others:
    """What all other processes of the token have written down.

    `taken`: their calls that the API may count now, or before they write again. `alive`: those that may begin a call;
    `waiting`: those of them that got nothing. `wait_s`: after how long fewer calls are taken, if nobody writes.
    """

    taken: int = 0
    alive: int = 0
    waiting: int = 0
    wait_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Entry:
    """What a process writes down: calls that it may have under way or begin, how long ago each other one ended, and
    whether it got nothing although others have more. `good_for_s`: for how long it may begin them; None: as the ledger.
    """

    reserved: int
    ages_s: tuple[float, ...]
    is_waiting: bool
    good_for_s: float | None = None


class Ledger(Protocol):
    """Where the processes of a token write down what they may spend."""

    @property
    def good_for_s(self) -> float:
        """For how long after it is written, by its own clock, a process may begin what it has reserved."""

    @property
    def standing_s(self) -> float:
        """The same for what stands; it is renewed at the half of it."""

    @property
    def term(self) -> int | None:
        """Differs once others may have taken this process for dead, and what it has reserved for free; None: they may.

        What was reserved in another term is not to be spent.
        """

    def now_s(self) -> float:
        """Seconds that go on while this machine sleeps, as those of others do who take a reservation for over."""

    async def write(self, decide: Callable[[Others], Entry]) -> None:
        """Write what `decide` makes of the others' entries, while none of them writes.

        `decide` may be called several times; its last entry is the one that stands. Raises `DatabaseError`.
        """
