"""Whether the calls of one token may go, by how those before them ended, and those of others at its address."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sync.core import api_errors
from sync.core.retry import Backoff, CircuitBreaker
from sync.mews.failed_calls import FailureLog
from sync.mews.platform_circuit import PROBES, PlatformCircuit, Prober

API_IS_DOWN = (
    api_errors.NotConnected,
    api_errors.ServerError,
    api_errors.ConnectionLost,
    api_errors.NotFromApi,
    api_errors.InvalidResponse,
)
"""What says that the API or the way to it is broken, whatever was asked."""


class TokenCircuit:
    """The circuit breaker of one token, and what failed. `clock` gives seconds that only go forward.

    `platform` is the circuit of its address, where tokens share one, and `prober` probes for it.
    """

    __slots__ = ("_last_fault", "_now_s", "_own", "_platform", "_prober", "_returns", "failure_log")

    def __init__(
        self,
        backoff: Backoff,
        rng: random.Random,
        clock: Callable[[], float],
        *,
        platform: PlatformCircuit | None,
        prober: Prober,
    ) -> None:
        self.failure_log = FailureLog()
        self._now_s = clock
        self._own = CircuitBreaker(backoff, rng)
        self._last_fault = ""
        self._platform = platform
        self._prober = prober
        self._returns = platform.returns if platform else 0

    @property
    def is_platform_away(self) -> bool:
        """Whether the calls of all tokens of the address are held back."""
        return self._platform is not None and self._platform.is_open

    @property
    def is_waiting(self) -> bool:
        """Whether too many calls failed just before, and the next probe is not due."""
        return self.is_platform_away or self._breaker.wait_s(self._now_s()) > 0

    @property
    def is_probing(self) -> bool:
        """Whether too many calls failed just before, so that the next one only finds out whether the API is back."""
        return self.is_platform_away or self._breaker.is_open

    def require(self, operation: str) -> None:
        """Raise `CircuitOpen` where no call may go now."""
        if self._platform is not None and self._platform.is_open:
            self._platform.turned_away(self._prober)
            raise api_errors.CircuitOpen(operation, self._platform.told, retry_after_s=PROBES.cap_s)
        if (wait_s := self._breaker.wait_s(self._now_s())) > 0:
            raise api_errors.CircuitOpen(operation, self._last_fault, retry_after_s=wait_s)

    def note_silence(self, operation: str, since_s: float) -> None:
        """Take note that a call has no answer yet."""
        if self._platform is not None:
            self._platform.failed(self._prober, since_s, f"{operation}: no answer yet")

    @contextmanager
    def passage(self, operation: str) -> Iterator[None]:
        """Let a call go that has its place already, and take how it ends. Raises `CircuitOpen` where none may go.

        Whoever waited for a place in here would be the probe meanwhile: nobody else could find the API back.
        """
        self.require(operation)
        self._breaker.begun()
        with self.watched(self._now_s()):
            yield

    @contextmanager
    def watched(self, began_s: float) -> Iterator[None]:
        """Take how a call ends that began then."""
        try:
            yield
        except API_IS_DOWN as error:
            # The pause lies between two askings: behind a time-out it is over, or one that is back would wait for it.
            self._breaker.failed(began_s)
            self.failure_log.note(error)
            self._last_fault = str(error.redacted())
            self._tell_platform(began_s, error.request_id, self._last_fault)
            raise
        except (api_errors.NotProcessed, api_errors.RequestTimedOut) as error:
            self.failure_log.note(error)
            if isinstance(error, api_errors.NotProcessed) or error.request_id:
                self._breaker.succeeded()  # by its own words an API that is there; a proxy's 408 has no name
            else:
                self._breaker.abandoned()
            if error.request_id and self._platform:
                self._platform.answered(self._prober, began_s)
            raise
        except BaseException:
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        if self._platform:
            self._platform.answered(self._prober, began_s)

    def forget(self) -> None:
        """Take no part in the address's circuit any more."""
        if self._platform is not None:
            self._platform.forget(self._prober)

    @property
    def _breaker(self) -> CircuitBreaker:
        """The token's own, which an outage of the platform that is over has closed."""
        if self._platform is not None and self._platform.returns != self._returns:
            self._returns = self._platform.returns
            self._own.succeeded()
        return self._own

    def _tell_platform(self, began_s: float, request_id: str | None, fault: str) -> None:
        if self._platform is None:
            return
        if request_id:  # the API has answered, and what it says is this token's own trouble
            self._platform.answered(self._prober, began_s)
        else:
            self._platform.failed(self._prober, began_s, fault)
