"""The request budget of a token, and whether clients keep quiet after a 429. Times are seconds of a forward clock."""

import math
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sync.demo.simulator.instants import Clock, http_date, whole_seconds

RetryAfterForm = Literal["seconds", "date"]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests a token has in any window. If not `enforced`, going over is a violation but no 429.

    `retry_after_form`: how the 429 says when to come back; None leaves the header out.
    """

    requests: int = 200
    window_s: float = 30.0
    enforced: bool = True
    retry_after_form: RetryAfterForm | None = "seconds"


UNLIMITED = RateLimit(requests=1_000_000_000, enforced=False)
"""As many as SYNC_RATE_LIMIT_REQUESTS takes."""


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """A Retry-After header."""

    wait_s: float
    form: RetryAfterForm = "seconds"

    @property
    def asked_s(self) -> float:
        """How long a client that obeys stays quiet: a header of seconds holds only whole ones."""
        return math.ceil(self.wait_s) if self.form == "seconds" else self.wait_s

    def header(self, clock: Clock) -> str:
        """The header's text. Rounded up: a client that obeys must not be refused again."""
        if self.form == "seconds":
            return str(math.ceil(self.wait_s))
        until = clock() + timedelta(seconds=self.wait_s)
        return http_date(until if until == whole_seconds(until) else until + timedelta(seconds=1))


class RequestBudget:
    """The sliding window of one token: when its latest requests came."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._arrivals: deque[float] = deque()

    def wait_s(self, now_s: float) -> float | None:
        """None if there is room for a request, else the seconds until there will be."""
        arrivals, limit = self._arrivals, self._limit
        while arrivals and arrivals[0] <= now_s - limit.window_s:
            arrivals.popleft()
        return None if len(arrivals) < limit.requests else arrivals[-limit.requests] + limit.window_s - now_s

    def count(self, now_s: float) -> None:
        """A request came and was not rejected with 429: the API does not count those."""
        self._arrivals.append(now_s)


class Silence:
    """The silence that a 429 has asked a token for.

    A request that came within `grace_s` of the 429 was on its way before the client could read it.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._from_s = -math.inf
        self._until_s = -math.inf

    def ask(self, now_s: float, wait_s: float) -> None:
        """A 429 goes out. A second one before the first is over prolongs the silence and grants no new grace."""
        if now_s >= self._until_s:
            self._from_s = now_s + self._grace_s
        self._until_s = max(self._until_s, now_s + wait_s)

    def is_broken_by(self, now_s: float) -> bool:
        """Whether a request that comes now comes too early."""
        return self._from_s <= now_s < self._until_s


class Gate:
    """The budgets and silences of all tokens."""

    def __init__(self, limit: RateLimit, *, grace_s: float) -> None:
        self._limit = limit
        self._budgets: defaultdict[str, RequestBudget] = defaultdict(lambda: RequestBudget(limit))
        self._silences: defaultdict[str, Silence] = defaultdict(lambda: Silence(grace_s))

    def broken_rules(self, token: str, now_s: float) -> Iterator[str]:
        """What a request that comes now does wrong, in sentences."""
        if self._silences[token].is_broken_by(now_s):
            yield "sent before the Retry-After of a 429 was over"
        if self._budgets[token].wait_s(now_s) is not None:
            yield f"over the budget of {self._limit.requests} requests in {self._limit.window_s:g} s"

    def wait_s(self, token: str, now_s: float) -> float | None:
        """None if a request may pass, else the seconds until one may."""
        return self._budgets[token].wait_s(now_s) if self._limit.enforced else None

    def count(self, token: str, now_s: float) -> None:
        """A request passed."""
        self._budgets[token].count(now_s)

    def ask_for_silence(self, token: str, now_s: float, retry_after: RetryAfter) -> None:
        """A 429 with this header goes out."""
        self._silences[token].ask(now_s, retry_after.asked_s)
