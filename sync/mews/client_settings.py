"""With which tokens a client calls, and how."""

from dataclasses import dataclass, field
from datetime import timedelta

from sync.core.retry import Backoff
from sync.mews.clock import TOLERANCE


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a read is tried, and how long the pauses are.

    A pause longer than `max_pause_s` is left to the caller, who can do something else meanwhile; without
    `waits_for_platform` so is one until an address is back that answers nobody.
    """

    max_attempts: int = 6
    max_pause_s: float = 30.0
    waits_for_platform: bool = True
    backoff: Backoff = Backoff(base_s=0.5, cap_s=5.0)
    circuit_backoff: Backoff = Backoff(base_s=1.0, cap_s=7.0, least=0.5)
    """An API that is back is found within its cap, and one that is away asked once in five seconds on average."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where to call, and what every call's body carries; the tokens never show in a representation."""

    platform_address: str
    client_token: str = field(repr=False)
    access_token: str = field(repr=False)
    client: str


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How a client calls: at most `budget_requests` in any `budget_window_s` seconds.

    `read_timeout_s`: for all of a read. `max_response_bytes`: of an answer, unpacked. `clock_tolerance`: how far the
    API's clock may be from every other one.
    """

    budget_requests: int
    budget_window_s: float
    read_timeout_s: float
    max_response_bytes: int
    retry_policy: RetryPolicy = RetryPolicy()
    clock_tolerance: timedelta = TOLERANCE
