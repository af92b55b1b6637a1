"""When to try again: pure decisions."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with jitter: a pause drawn evenly from a share `least` of a bound that doubles, to the bound.

    Full jitter, from zero, is what spreads clients that failed together best; a fixed pause is what the API's vendor
    forbids. Where a pause says how seldom something is asked, it must not be drawn near zero.
    """

    base_s: float
    cap_s: float
    least: float = 0.0

    def pause_s(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after `failures` (1 or more) failures in a row."""
        # Past 2**32 times the base every bound is the cap, and a float would overflow after a long outage.
        bound_s = min(self.cap_s, self.base_s * 2 ** min(failures - 1, 32))
        return rng.uniform(self.least * bound_s, bound_s)


class CircuitBreaker:
    """Stops calls after repeated failures, then lets one through at a time until it succeeds.

    Time comes in as `now_s`, in seconds of any clock that only goes forward.
    """

    __slots__ = ("_backoff", "_failures", "_open_until_s", "_probing", "_rng", "_threshold")

    def __init__(self, backoff: Backoff, rng: random.Random, *, threshold: int = 5) -> None:
        self._backoff = backoff
        self._rng = rng
        self._threshold = threshold
        self._failures = 0
        self._open_until_s = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are being held back."""
        return self._failures >= self._threshold

    def wait_s(self, now_s: float) -> float:
        """0 if a call may go now, else the seconds to wait; to ask takes nothing."""
        if not self.is_open:
            return 0.0
        return self._backoff.base_s if self._probing else max(0.0, self._open_until_s - now_s)

    def begun(self) -> None:
        """A call begins that `wait_s` lets go; when the circuit is open, it is the probe."""
        self._probing = self.is_open

    def succeeded(self) -> None:
        """A call was answered in a way that shows the API works."""
        self._failures = 0
        self._probing = False

    def failed(self, began_s: float) -> None:
        """A call that began at `began_s` failed in a way that says nothing about the call itself."""
        self._failures += 1
        self._probing = False
        if self.is_open:
            pause_s = self._backoff.pause_s(self._failures - self._threshold + 1, self._rng)
            # One that began long ago, beside others, must not end the pause behind a later one.
            self._open_until_s = max(self._open_until_s, began_s + pause_s)

    def abandoned(self) -> None:
        """A call ended without telling anything: the probe, if it was one, is free again."""
        self._probing = False
