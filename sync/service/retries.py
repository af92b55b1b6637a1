"""How soon a job that failed is tried again: within seconds where something is away, so that its return is seen."""

import math
from random import Random

from sync.core.retry import Backoff
from sync.service.health import Health

WHILE_AWAY = Backoff(base_s=0.5, cap_s=2.0, least=0.5)
"""What is away costs next to nothing: a database refuses at once, and the circuit of the API's client lets through one
call in some seconds, whoever tries."""
OTHERWISE = Backoff(base_s=2.0, cap_s=60.0, least=0.5)
"""A token that is refused, a fault of ours: that takes somebody's hand, and every try may cost a call."""


class Retries:
    """The failures in a row of each job, by the name that `Health` has for it."""

    __slots__ = ("_failures", "_health", "_rng")

    def __init__(self, health: Health, rng: Random) -> None:
        self._health = health
        self._rng = rng
        self._failures = dict[str, int]()

    def pause_s(self, job: str) -> float | None:
        """Seconds until a job that has just run is tried again; None if it did not fail, and waits for its interval.

        Without end while the platform answers nobody: once it is back, what was left out is made up for.
        """
        if not self._health.is_failing(job):
            self._failures.pop(job, None)
            return None
        self._failures[job] = self._failures.get(job, 0) + 1
        if self._health.is_outage(job) and self._health.is_platform_away:
            return math.inf
        backoff = WHILE_AWAY if self._health.is_outage(job) else OTHERWISE
        return backoff.pause_s(self._failures[job], self._rng)
