"""What the process has counted by itself, read off its parts at one instant."""

from collections.abc import Iterator
from functools import cache
from importlib.metadata import version

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import QueuePool

from sync.core.histogram import Histogram
from sync.mews.transport import HttpPools
from sync.postgres.schema_version import known_revisions
from sync.service.jobs import Jobs
from sync.web.metrics import names
from sync.web.metrics.names import Metric

Sample = tuple[Metric, tuple[str, ...], float | Histogram]
"""A metric, the values of its labels, and its own."""

JOBS = ("discovery", "pull", "push", "outbox", "settle", "audit", "heartbeat")
PUSHED = ("done", "failed", "uncertain", "given_back", "held", "refused")


def of_process(engine: AsyncEngine, *, has_secret_key: bool) -> Iterator[Sample]:
    """What is told once, whatever the number of connections."""
    yield names.HAS_SECRET_KEY, (), has_secret_key
    yield names.BUILD, (_version(), known_revisions()[-1]), 1
    if isinstance(engine.pool, QueuePool):
        yield names.SESSIONS, (), engine.pool.checkedout()
        yield names.SESSIONS_LIMIT, (), engine.pool.size()


@cache
def _version() -> str:
    return version("voucher-sync")


def of_platforms(pools: HttpPools) -> Iterator[Sample]:
    """What is told of each platform address that connections are at."""
    for address, cap in pools.caps.items():
        limits = cap.limits
        yield names.PLATFORM_IN_FLIGHT, (address,), cap.in_flight
        yield names.PLATFORM_WAITING, (address,), cap.waiting
        yield names.PLATFORM_IN_FLIGHT_LIMIT, (address,), limits.in_flight
        yield names.PLATFORM_PER_SECOND_LIMIT, (address,), limits.per_s
        yield names.PLATFORM_CIRCUIT_OPEN, (address,), address in pools.away
    for address, durations_s in pools.durations_s.items():
        for operation, histogram in durations_s.items():
            yield names.REQUEST_SECONDS, (address, operation), histogram.copy()


def of_connection(jobs: Jobs, limit: int) -> Iterator[Sample]:
    """What the process has counted of one connection, whose budget is `limit` requests.

    What never happened counts 0, so that its rise from there is seen.
    """
    name = jobs.connection.name
    yield names.BUDGET_LIMIT, (name,), limit
    for metric, labels, value in (*_of_jobs(jobs), *_of_client(jobs)):
        yield metric, (name, *labels), value


def _of_jobs(jobs: Jobs) -> Iterator[Sample]:
    for job in JOBS:
        yield names.FAILING, (job,), jobs.health.is_failing(job)
        for outcome, has_failed in (("ok", False), ("failed", True)):
            yield names.RUNS, (job, outcome), jobs.health.runs[job, has_failed]
    if (age_s := jobs.progress.age_s()) is not None:
        yield names.POLL_AGE, (), age_s
    pulled, pushed = jobs.progress.totals, jobs.outbox.totals
    yield names.WINDOWS, (), pulled["windows_done"]
    yield names.PAGES, (), pulled["pages"]
    yield names.CODES, ("written",), pulled["written"]
    yield names.CODES, ("rejected",), pulled["rejected"]
    yield names.CODES, ("unchanged",), pulled["codes"] - pulled["written"]
    yield names.CALLS_OF_PUSH, (), pushed["calls"]
    for outcome in PUSHED:
        yield names.CHANGES, (outcome,), pushed[outcome]


def _of_client(jobs: Jobs) -> Iterator[Sample]:
    client = jobs.connection.client
    for (operation, status), count in client.traffic.calls.items():
        yield names.REQUESTS, (operation, status), count
    for operation in {operation for operation, _ in client.traffic.calls}:
        yield names.RETRIES, (operation,), client.traffic.retries[operation]
    yield names.BUDGET_USED, (), client.rate_limiter.spent()
    yield names.SILENCE, (), client.rate_limiter.silent_s()
    yield names.CIRCUIT_OPEN, (), client.is_probing
