"""What the process has counted by itself, read off its parts at one instant."""

from collections.abc import Callable, Iterator, Mapping
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

Told = tuple[tuple[str, ...], float]
"""The values of a metric's labels, and its own."""
Observed = tuple[tuple[str, ...], Histogram]
"""The same of a histogram."""

JOBS = ("discovery", "pull", "push", "outbox", "settle", "audit", "heartbeat")
PUSHED = ("done", "failed", "uncertain", "given_back", "held", "refused")


def of_process(engine: AsyncEngine, *, has_secret_key: bool) -> Iterator[tuple[Metric, Told]]:
    """What is told once, whatever the number of connections."""
    yield names.HAS_SECRET_KEY, ((), has_secret_key)
    yield names.BUILD, ((_version(), known_revisions()[-1]), 1)
    if isinstance(engine.pool, QueuePool):
        yield names.SESSIONS, ((), engine.pool.checkedout())
        yield names.SESSIONS_LIMIT, ((), engine.pool.size())


@cache
def _version() -> str:
    return version("voucher-sync")


def of_platforms(pools: HttpPools) -> Iterator[tuple[Metric, Told | Observed]]:
    """What is told of each platform address that connections are at."""
    for address, cap in pools.caps.items():
        limits = cap.limits
        yield names.PLATFORM_IN_FLIGHT, ((address,), cap.in_flight)
        yield names.PLATFORM_WAITING, ((address,), cap.waiting)
        yield names.PLATFORM_IN_FLIGHT_LIMIT, ((address,), limits.in_flight)
        yield names.PLATFORM_PER_SECOND_LIMIT, ((address,), limits.per_s)
        yield names.PLATFORM_CIRCUIT_OPEN, ((address,), address in pools.away)
    for address, durations_s in pools.durations_s.items():
        for operation, histogram in durations_s.items():
            yield names.REQUEST_SECONDS, ((address, operation), histogram.copy())


def _failing(jobs: Jobs) -> Iterator[Told]:
    for job in JOBS:
        yield (job,), jobs.health.is_failing(job)


def _runs(jobs: Jobs) -> Iterator[Told]:
    for job in JOBS:
        for outcome, has_failed in (("ok", False), ("failed", True)):
            yield (job, outcome), jobs.health.runs[job, has_failed]


def _poll_age(jobs: Jobs) -> Iterator[Told]:
    if (age_s := jobs.progress.age_s()) is not None:
        yield (), age_s


def _codes(jobs: Jobs) -> Iterator[Told]:
    pulled = jobs.progress.totals
    yield ("written",), pulled.written
    yield ("rejected",), pulled.rejected
    yield ("unchanged",), pulled.codes - pulled.written


def _changes(jobs: Jobs) -> Iterator[Told]:
    for outcome in PUSHED:
        yield (outcome,), jobs.outbox.totals[outcome]


def _requests(jobs: Jobs) -> Iterator[Told]:
    yield from jobs.connection.client.traffic.calls.items()


def _retries(jobs: Jobs) -> Iterator[Told]:
    traffic = jobs.connection.client.traffic
    for operation in {operation for operation, _ in traffic.calls}:
        yield (operation,), traffic.retries[operation]


def _one(read: Callable[[Jobs], float]) -> Callable[[Jobs], Iterator[Told]]:
    def told(jobs: Jobs) -> Iterator[Told]:
        yield (), read(jobs)

    return told


OF_JOBS: Mapping[Metric, Callable[[Jobs], Iterator[Told]]] = {
    names.FAILING: _failing,
    names.RUNS: _runs,
    names.POLL_AGE: _poll_age,
    names.WINDOWS: _one(lambda jobs: jobs.progress.totals.windows_done),
    names.PAGES: _one(lambda jobs: jobs.progress.totals.pages),
    names.CODES: _codes,
    names.CALLS_OF_PUSH: _one(lambda jobs: jobs.outbox.totals["calls"]),
    names.CHANGES: _changes,
    names.REQUESTS: _requests,
    names.RETRIES: _retries,
    names.BUDGET_USED: _one(lambda jobs: jobs.connection.client.rate_limiter.spent()),
    names.BUDGET_LIMIT: _one(lambda jobs: jobs.connection.client.rate_limiter.limit),
    names.SILENCE: _one(lambda jobs: jobs.connection.client.rate_limiter.silent_s()),
    names.CIRCUIT_OPEN: _one(lambda jobs: jobs.connection.client.is_probing),
}
"""What the process has counted of a connection, by metric, without the label `connection`.

What never happened counts 0, so that its rise from there is seen.
"""
