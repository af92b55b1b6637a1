"""Every metric: its name without the prefix, kind, unit, labels and meaning. docs/reference/metrics.md is made of it.

Names and units as Prometheus and OpenMetrics want them: base units, a counter ends in `_total`. The values of a label
are few: connections, addresses, operations of the API, jobs, statuses.
"""

from dataclasses import dataclass
from typing import Literal

PREFIX = "voucher_sync_"
Kind = Literal["counter", "gauge", "histogram", "info"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `unit` is the end of its name, but for a counter's `_total`."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    unit: str = ""

    @property
    def full_name(self) -> str:
        """As a query names it, but for a histogram's three."""
        return PREFIX + self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


def _of_connection(name: str, kind: Kind, meaning: str, *labels: str, unit: str = "") -> Metric:
    return Metric(name, kind, meaning, ("connection", *labels), unit)


BUILD = Metric(
    "build", "info", "What runs: version, and the revision of the schema that it needs.", ("version", "revision")
)
LOOP_LAG = Metric(
    "event_loop_lag_seconds",
    "histogram",
    "How much later than asked for the event loop went on, measured twice a second.",
    unit="seconds",
)
SESSIONS = Metric("database_sessions_in_use", "gauge", "Database sessions at work, beside those that listen and beat.")
SESSIONS_LIMIT = Metric(
    "database_sessions_limit",
    "gauge",
    "As many there may be: SYNC_DATABASE_POOL, of which from 3 on one is kept for heartbeats.",
)
DATABASE_UP = Metric("database_up", "gauge", "1 if the database has just answered; 0: what comes from it is left out.")

PLATFORM_IN_FLIGHT = Metric(
    "platform_calls_in_flight", "gauge", "Calls of all connections that are under way.", ("platform_address",)
)
PLATFORM_WAITING = Metric(
    "platform_calls_waiting",
    "gauge",
    "Calls that wait for others to end, of whichever connection.",
    ("platform_address",),
)
PLATFORM_IN_FLIGHT_LIMIT = Metric(
    "platform_calls_in_flight_limit",
    "gauge",
    "As many may be under way: this replica's part of SYNC_PLATFORM_CALLS_IN_FLIGHT.",
    ("platform_address",),
)
PLATFORM_PER_SECOND_LIMIT = Metric(
    "platform_calls_per_second_limit",
    "gauge",
    "As many may begin within a second: this replica's part of SYNC_PLATFORM_CALLS_PER_S.",
    ("platform_address",),
)
PLATFORM_CIRCUIT_OPEN = Metric(
    "platform_circuit_open",
    "gauge",
    "1 if the address answers no connection, so that all wait for one that asks now and then.",
    ("platform_address",),
)
REQUEST_SECONDS = Metric(
    "request_duration_seconds",
    "histogram",
    "Duration of the API's calls, of whichever connection.",
    ("platform_address", "operation"),
    unit="seconds",
)

HAS_SECRET_KEY = Metric("has_secret_key", "gauge", "1 if it has a key to the tokens in the database, else 0.")

REPLICAS = Metric("replicas", "gauge", "Daemons that were heard of within their lease.")
REPLICAS_SILENT = Metric("replicas_silent", "gauge", "Daemons that ended without saying so within the last day.")
STORED_CONNECTIONS = Metric(
    "stored_connections", "gauge", "Connections whose tokens the database keeps, encrypted, and that are not removed."
)

# Not `job`: Prometheus has a label of its own by that name, and would call this one `exported_job`.
FAILING = _of_connection("failing", "gauge", "1 if this kind of job failed when it last ran, else 0.", "kind")
RUNS = _of_connection("job_runs", "counter", "Ended runs of jobs; outcome is ok or failed.", "kind", "outcome")
POLL_AGE = _of_connection(
    "poll_age_seconds", "gauge", "Time since a pull last read a page, or ended well.", unit="seconds"
)
WINDOWS = _of_connection("windows", "counter", "Windows that pulls have read to their end.")
PAGES = _of_connection("pages", "counter", "Pages of codes that pulls have read.")
CODES = _of_connection(
    "codes", "counter", "Codes that pulls have read; outcome is written, unchanged or rejected.", "outcome"
)
CALLS_OF_PUSH = _of_connection("push_calls", "counter", "Calls that changed something, or tried to.")
CHANGES = _of_connection(
    "changes",
    "counter",
    "Changes by what became of them; outcome is done, failed, uncertain, given_back, held or refused.",
    "outcome",
)
REQUESTS = _of_connection(
    "requests",
    "counter",
    "Calls of the API; status is the answer's, or not_connected, connection_lost, timed_out, cancelled or failed.",
    "operation",
    "status",
)
RETRIES = _of_connection("request_retries", "counter", "Reads that were tried once more.", "operation")
BUDGET_USED = _of_connection(
    "budget_used_requests", "gauge", "Requests of this process that count in the API's window now.", unit="requests"
)
BUDGET_LIMIT = _of_connection(
    "budget_limit_requests",
    "gauge",
    "As many there may be (SYNC_RATE_LIMIT_REQUESTS), with those of other processes.",
    unit="requests",
)
SILENCE = _of_connection(
    "silence_seconds", "gauge", "For so long the API has asked for silence (Retry-After).", unit="seconds"
)
CIRCUIT_OPEN = _of_connection(
    "circuit_open", "gauge", "1 if too many calls failed just before, so that the API is asked only now and then."
)

PAUSED = _of_connection(
    "paused",
    "gauge",
    "1 if it is paused, else 0. While it is, what would only grow older is left out, so that no alert tells of it.",
)
OWNED = _of_connection("owned", "gauge", "1 if a daemon works for it that is alive, else 0; of a paused one nothing.")
HEARTBEAT = _of_connection(
    "heartbeat_age_seconds", "gauge", "Time since any daemon noted for it that it lives.", unit="seconds"
)
NOT_ADOPTED = _of_connection(
    "not_adopted", "gauge", "1 if the database was restored, copied, or has lost commits, and waits for `adopt`."
)
FRESHNESS = _of_connection(
    "freshness_seconds", "gauge", "Time since the start of the last pull that left nothing to read.", unit="seconds"
)
LAG = _of_connection(
    "lag_seconds", "gauge", "Age of the instant through which every voucher is mirrored.", unit="seconds"
)
OPEN_WINDOWS = _of_connection("open_windows", "gauge", "Windows that are planned and not read to their end.")
OUTBOX = _of_connection(
    "outbox_rows",
    "gauge",
    "Changes in the outbox that are not finished, and failed ones; of no connection: not known yet.",
    "status",
)
OUTBOX_AGE = _of_connection(
    "outbox_oldest_pending_seconds",
    "gauge",
    "Time since the oldest pending change was queued, of those that are not put off by 15 minutes or more.",
    unit="seconds",
)
STUCK = _of_connection(
    "outbox_stuck",
    "gauge",
    "Changes of which nothing can become until somebody mends what keeps them, as what on the table refuses them.",
)
REJECTED = _of_connection("rejected_records", "gauge", "Records of the API that could not be stored, and are kept raw.")
SKIPPED = _of_connection("skipped", "gauge", "Services and vouchers that are left out.")
AUDIT_AGE = _of_connection("audit_age_seconds", "gauge", "Time since which every voucher was audited.", unit="seconds")
DRIFT = _of_connection("audit_drift_codes", "gauge", "Codes that the last audits found to differ.", unit="codes")
AUDIT_STOPPED = _of_connection("audit_stopped", "gauge", "1 if the last audit missed too much, and changed nothing.")

OF_PROCESS = (BUILD, LOOP_LAG, SESSIONS, SESSIONS_LIMIT, DATABASE_UP, HAS_SECRET_KEY)
OF_PLATFORM = (
    PLATFORM_IN_FLIGHT, PLATFORM_WAITING, PLATFORM_IN_FLIGHT_LIMIT, PLATFORM_PER_SECOND_LIMIT, PLATFORM_CIRCUIT_OPEN,
    REQUEST_SECONDS,
)  # fmt: skip
OF_CONNECTION = (
    FAILING, RUNS, POLL_AGE, WINDOWS, PAGES, CODES, CALLS_OF_PUSH, CHANGES,
    REQUESTS, RETRIES, BUDGET_USED, BUDGET_LIMIT, SILENCE, CIRCUIT_OPEN,
)  # fmt: skip
"""Counted by the process that works for a connection."""
OF_DATABASE = (
    REPLICAS, REPLICAS_SILENT, STORED_CONNECTIONS, PAUSED, OWNED, HEARTBEAT, NOT_ADOPTED, FRESHNESS, LAG, OPEN_WINDOWS,
    OUTBOX, OUTBOX_AGE, STUCK, REJECTED, SKIPPED, AUDIT_AGE, DRIFT, AUDIT_STOPPED,
)  # fmt: skip
"""The same from whichever process of a database they are asked; a connection that was removed has none."""
METRICS = (*OF_PROCESS, *OF_PLATFORM, *OF_CONNECTION, *OF_DATABASE)
PARTS = (
    ("Of the process", "What runs, and how it is doing.", OF_PROCESS),
    (
        "Of a platform address",
        "What the process asks of it, for all of its connections together.",
        OF_PLATFORM,
    ),
    (
        "Of a connection",
        "Counted by the process that works for it. `connection` is `default` for that of the environment.",
        OF_CONNECTION,
    ),
    (
        "Of the database",
        "Read by one statement, every 5 s at most; every daemon of the database tells the same. While it is away they "
        "are left out, and `voucher_sync_database_up` is 0.",
        OF_DATABASE,
    ),
)
"""The parts of the page, each with its title and a sentence."""
