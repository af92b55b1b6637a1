"""What went over the wire since the process began: calls by how they ended and how long they took."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import httpx

from sync.core.histogram import Histogram
from sync.core.tracing import span

DURATION_BOUNDS_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 60.0)
Durations = defaultdict[str, Histogram]
"""How many seconds calls of each operation took."""


class Call:
    """One call; `status` is the API's once it has answered."""

    __slots__ = ("status",)

    def __init__(self) -> None:
        self.status = 0


class Traffic:
    """Counts of one token that only grow. `calls` by operation and how they ended: the answer's status, or a word
    for its lack.

    How long they took counts in the `durations_s` of all tokens of an address: it is as fast for one as for another,
    and for each of thousands they would be as much to scrape as all else together.
    """

    __slots__ = ("_durations_s", "calls", "retries")

    def __init__(self, durations_s: Durations) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.retries: Counter[str] = Counter()
        self._durations_s = durations_s

    @contextmanager
    def measured(self, operation: str) -> Iterator[Call]:
        """Measure one call, which may end with any error."""
        call, began_s, ended = Call(), time.monotonic(), "failed"
        try:
            with span("request", operation=operation) as told:
                yield call
                told.set(status=call.status)
            ended = str(call.status)
        except TimeoutError:
            ended = "timed_out"
            raise
        except asyncio.CancelledError:
            ended = "cancelled"  # as one beside which another was sent, since it hung
            raise
        except (httpx.ConnectError, httpx.ConnectTimeout):
            ended = "not_connected"
            raise
        except httpx.TransportError:
            ended = "connection_lost"
            raise
        finally:
            self.calls[_kind(operation, ended)] += 1
            self._durations_s[operation].observe(time.monotonic() - began_s)


@cache
def _kind(operation: str, ended: str) -> tuple[str, str]:
    """There once: thousands of tokens count by the same few."""
    return operation, ended


def no_durations() -> Durations:
    """None of any operation yet."""
    return defaultdict(lambda: Histogram(DURATION_BOUNDS_S))
