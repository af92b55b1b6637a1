"""Whether the calls of one token may go, by how those before them ended."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sync.core import errors
from sync.core.retry import Backoff, CircuitBreaker
from sync.mews.failed_calls import FailureLog

API_IS_DOWN = (
    errors.NotConnected,
    errors.ServerError,
    errors.ConnectionLost,
    errors.NotFromApi,
    errors.InvalidResponse,
)
"""What says that the API or the way to it is broken, whatever was asked."""


class TokenCircuit:
    """The circuit breaker of one token, and what failed. `clock` gives seconds that only go forward."""

    def __init__(self, backoff: Backoff, rng: random.Random, clock: Callable[[], float]) -> None:
        self.failure_log = FailureLog()
        self._now_s = clock
        self._breaker = CircuitBreaker(backoff, rng)
        self._last_fault = ""

    @property
    def is_waiting(self) -> bool:
        """Whether too many calls failed just before, and the next probe is not due."""
        return self._breaker.holds_back(self._now_s())

    @property
    def is_probing(self) -> bool:
        """Whether too many calls failed just before, so that the next one only finds out whether the API is back."""
        return self._breaker.is_open

    @contextmanager
    def passage(self, operation: str) -> Iterator[None]:
        """Let a call go, and take how it ends. Raises `CircuitOpen` where none may go."""
        began_s = self._now_s()
        if (wait_s := self._breaker.wait_s(began_s)) > 0:
            raise errors.CircuitOpen(operation, self._last_fault, retry_after_s=wait_s)
        try:
            yield
        except API_IS_DOWN as error:
            # The pause lies between two askings: behind a time-out it is over, or one that is back would wait for it.
            self._breaker.failed(began_s)
            self.failure_log.note(error)
            self._last_fault = str(error.redacted())
            raise
        except (errors.NotProcessed, errors.RequestTimedOut) as error:
            self.failure_log.note(error)
            if isinstance(error, errors.NotProcessed) or error.request_id:
                self._breaker.succeeded()  # by its own words an API that is there; a proxy's 408 has no name
            else:
                self._breaker.abandoned()
            raise
        except BaseException:
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()
