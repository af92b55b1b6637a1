"""What is told of a connection that is looked at by itself. Instants are the database's clock's; None: unknown."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sync.service.runs import Run


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """The windows that are open: `left` of `planned`, from `start` to `end`, for `vouchers`; `done_in_s` from now.

    `names` are some of the vouchers'. `planned` and `done_in_s` are None where nothing tells.
    """

    left: int
    planned: int | None
    start: datetime
    end: datetime
    vouchers: int
    names: list[str]
    done_in_s: float | None


@dataclass(frozen=True, slots=True)
class WaitingGroup:
    """Changes that wait for one reason. `next_at`: when the first of them is tried; `oldest_at`: queued since."""

    why: str
    count: int
    oldest_at: datetime
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class HeldGroup:
    """Changes that are held for one reason."""

    reason: str
    count: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class FailedGroup:
    """Changes that were refused for one reason, in the API's words without codes; the last of them by its ids."""

    reason: str
    count: int
    last_at: datetime
    row_id: int
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Audit:
    """One audit. `drift` is None where no run tells it; `braked`: why it changed nothing."""

    began_at: datetime
    finished_at: datetime | None
    is_running: bool
    drift: int | None
    repaired: int | None
    braked: str | None


@dataclass(frozen=True, slots=True)
class Share:
    """Calls of the token's budget that a process has made within the API's window or may make; None: not a daemon."""

    process: UUID
    daemon: str | None
    calls: int
    is_waiting: bool


@dataclass(frozen=True, slots=True)
class RequestFailure:
    """Calls of one operation that failed in one way."""

    operation: str
    problem: str
    count: int
    first_at: datetime
    last_at: datetime
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Outage:
    """From when to when a connection failed; `ended_at` None: it does still."""

    began_at: datetime
    ended_at: datetime | None
    error: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What is not read, or could not be stored, for one reason; `names` are some of them."""

    kind: str
    reason: str
    count: int
    names: list[str]


@dataclass(frozen=True, slots=True)
class Details:
    """What is told of a connection that is looked at by itself; each list is bounded, the newest or largest first.

    Reasons are those of 1,000 changes of each sort: the first that are due, the first that were held, the last refused.
    """

    last_runs: list[Run] = field(default_factory=list)
    reading: BackfillProgress | None = None
    waiting: list[WaitingGroup] = field(default_factory=list)
    held_for: list[HeldGroup] = field(default_factory=list)
    failed: list[FailedGroup] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)
    next_audit_at: datetime | None = None
    audit_missed_at: datetime | None = None
    budget: list[Share] = field(default_factory=list)
    request_failures: list[RequestFailure] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    skipped_because: list[LeftOut] = field(default_factory=list)
    rejected_because: list[LeftOut] = field(default_factory=list)
