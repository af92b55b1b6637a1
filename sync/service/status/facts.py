"""What is told of connections and daemons. Instants and ages are the database's clock's; None: unknown."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from sync.service.status.detail_facts import Details

COUNTED_TO = 10_000
"""Of changes, and of records, no more are counted than these, of each connection and status: a look stays quick."""
DEFAULTS: Mapping[str, Any] = {
    "SYNC_LEASE_S": 30.0,
    "SYNC_PULL_INTERVAL_S": 60.0,
    "SYNC_AUDIT_CRON": "0 3 * * *",
    "SYNC_RATE_LIMIT_REQUESTS": 200,
    "SYNC_RATE_LIMIT_WINDOW_S": 30.0,
}


def setting(told: Mapping[str, Any], name: str) -> Any:
    """What a daemon works by that tells these settings; one of another release may not tell it."""
    return told.get(name, DEFAULTS[name])


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process of `voucher-sync run`; alive if it was heard of within its own lease. `settings` hold no secrets.

    `connections`: how many it works for, none once it is silent. `takes`: whose tokens it has, `environment` or
    `stored`, and its keys to these by name; None of a release that does not tell.
    """

    process: UUID
    host: str
    pid: int
    version: str
    revision: str
    settings: dict[str, Any]
    started_at: datetime
    heartbeat_age_s: float
    takes: list[str] | None
    is_alive: bool
    connections: int

    @property
    def name(self) -> str:
        """The machine, and the process on it."""
        return f"{self.host} ({self.pid})"


@dataclass(frozen=True, slots=True)
class MirrorState:
    """What is mirrored of a connection, and what its audits have found.

    `voucher_codes_estimated`: their number is PostgreSQL's estimate. `refused_vouchers`: of those that are skipped, how
    many the API lists, and whose codes it refuses to show. `audit_repaired`: how many of those that had drifted are
    mended.
    """

    vouchers: int
    voucher_codes: int | None
    voucher_codes_estimated: bool
    open_windows: int
    complete_through: datetime | None
    lag_s: float | None
    skipped: int
    refused_vouchers: int
    rejected_records: int
    audited_since: datetime | None
    audit_drift: int | None
    audit_repaired: int
    audit_braked: str | None


@dataclass(slots=True)
class Backlog:
    """`outbox` counts changes that nobody may forget by their status, up to 10,000; those in `outbox_at_least`
    are more. `held` counts those that are held by why they are; `stuck` is how many nothing can become of until
    somebody mends what keeps them. Changes whose voucher no connection knows count for the only one there is.
    """

    outbox: dict[str, int] = field(default_factory=dict)
    outbox_at_least: list[str] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    oldest_waiting_age_s: float | None = None
    stuck: int = 0

    def count(self, *statuses: str) -> int:
        """How many changes are counted in these statuses."""
        return sum(self.outbox.get(status, 0) for status in statuses)

    def has_more(self, *statuses: str) -> bool:
        """Whether there are more in these than are counted."""
        return any(status in self.outbox_at_least for status in statuses)


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """One connection as it stands in the database; ages in seconds by the database's clock, None where unknown.

    `state` is `ok`, `failing`, or `unknown` where no process has told yet how its first run ended. `caught_up_age_s`:
    since the last pull that left nothing to read. `gap`: `copy` or `behind` for a database that is to be adopted,
    noticed at `gap_at`. `origin`: whose tokens they are, `environment`, or `command` or `webhook` for those that the
    database keeps. `owner`: the machine and the process of the daemon that works for it, if one does that is alive.
    `paused_at`: since when nothing is done for it; `is_removed`: never again, and changes wait that were queued for it
    since. `failed_request_age_s`: since a call of the API last failed.
    """

    name: str
    origin: str | None
    owner: str | None
    paused_at: datetime | None
    paused_because: str | None
    is_removed: bool
    state: str
    state_since: datetime | None
    error: str | None
    error_kind: str | None
    heartbeat_age_s: float | None
    caught_up_age_s: float | None
    caught_up_through: datetime | None
    failed_request_age_s: float | None
    gap: str | None
    gap_at: datetime | None
    mirror: MirrorState
    backlog: Backlog
    details: Details = field(default_factory=Details)

    @property
    def is_stored(self) -> bool:
        """Whether the database keeps its tokens."""
        return self.origin not in {None, "environment"}

    @property
    def has_failed_since(self) -> bool:
        """Whether it fails, and a call did since its last success. Of one that works, a refused call is none of that:
        services that carry no vouchers are refused at each discovery.
        """
        success_s = math.inf if self.caught_up_age_s is None else self.caught_up_age_s
        is_later = self.failed_request_age_s is not None and self.failed_request_age_s < success_s
        return self.state == "failing" and is_later


@dataclass(frozen=True)
class Overview:
    """Everything, at the database's `now`: connections by name, and daemons, those that are alive first.

    `database`: its name and where it is. `unassigned` counts, where there are several connections, the changes whose
    voucher none of them knows, by status, and up to `COUNTED_TO`; those in `unassigned_at_least` are more.

    What is made of the daemons is made once: it is asked of each of thousands of connections.
    """

    now: datetime
    database: str
    revision: str
    connections: list[ConnectionStatus]
    daemons: list[Daemon]
    unassigned: dict[str, int] = field(default_factory=dict)
    unassigned_at_least: list[str] = field(default_factory=list)

    @cached_property
    def alive(self) -> list[Daemon]:
        """The daemons that were heard of within their lease."""
        return [daemon for daemon in self.daemons if daemon.is_alive]

    @cached_property
    def left_behind(self) -> list[Daemon]:
        """The silent daemons of a release before the one that has migrated the database, the last heard of first."""
        return [one for one in self._silent if one.revision < self.revision]

    @cached_property
    def gone(self) -> list[Daemon]:
        """The other silent daemons that nobody has started anew on their machine since, the last heard of first."""
        begun_s: dict[str, float] = {}
        for one in self.alive:
            age_s = (self.now - one.started_at).total_seconds()
            begun_s[one.host] = min(age_s, begun_s.get(one.host, math.inf))
        others = (one for one in self._silent if one.revision >= self.revision)
        return [one for one in others if begun_s.get(one.host, math.inf) > one.heartbeat_age_s]

    @property
    def _silent(self) -> list[Daemon]:
        return sorted((one for one in self.daemons if not one.is_alive), key=lambda one: one.heartbeat_age_s)
