"""How often a measure was how large, counted as it grows."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts of values up to each of `bounds`, and beyond; and their sum."""

    __slots__ = ("_counts", "bounds", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self._counts: list[int] = []
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        at = bisect_left(self.bounds, value)
        if at >= len(self._counts):  # no longer than they must be: there are several of each token
            self._counts = self._counts + [0] * (at + 1 - len(self._counts))
        self._counts[at] += 1
        self.sum += value

    @property
    def counts(self) -> Sequence[int]:
        """How many values were up to each bound and above the one before it, and how many beyond the last."""
        return self._counts + [0] * (len(self.bounds) + 1 - len(self._counts))

    def copy(self) -> "Histogram":
        """The same counts, which grow no further."""
        other = Histogram(self.bounds)
        other._counts, other.sum = self._counts.copy(), self.sum
        return other
