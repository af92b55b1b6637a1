"""When each flow runs: the jobs of one connection, fired by APScheduler until the service stops."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from sync.db import connections
from sync.db.audit import has_unfinished
from sync.db.connections import CaughtUp
from sync.db.engine import transaction
from sync.flows.audit import AuditReport, AuditSettings, audit
from sync.flows.claim import Knowledge
from sync.flows.connection import Connection
from sync.flows.discover import DiscoverReport, discover
from sync.flows.pull import PullReport, PullSettings, pull
from sync.health import Health
from sync.model.errors import AuditBraked, Defect, Stopped, VoucherSyncError
from sync.outbox_jobs import OutboxJobs, OutboxSettings

R = TypeVar("R")

GRACE_S = 8.0
"""How long a stop waits for the pages in flight; within 10 s the service must be gone."""
PRUNE_INTERVAL_S = 600.0
RESUME_INTERVAL_S = 300.0
TURN_S = 20.0
"""After this a pull lets others have their turn: discovery, and what is new in vouchers that are mirrored already."""
JITTER = 0.1
"""Share of an interval by which its runs are spread, so that many services do not call at the same second."""
MAX_IDS_LOGGED = 10

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between the runs of each job, and when the audit begins, in cron's five fields, in UTC."""

    pull_s: float
    discovery_s: float
    heartbeat_s: float
    push_poll_s: float
    audit_cron: str


class Jobs:
    """The flows of one connection: discovery and pull one at a time, and the outbox beside them."""

    def __init__(
        self,
        connection: Connection,
        pull_settings: PullSettings,
        outbox_settings: OutboxSettings,
        audit_settings: AuditSettings,
    ) -> None:
        self.health = Health(connection)
        self._knowledge = Knowledge(visible_after=outbox_settings.push.settle_after)
        self.outbox = OutboxJobs(
            connection, outbox_settings, self._knowledge, self.health, discover=self.discover, pull=self.pull
        )
        self._connection = connection
        self._pull_settings = pull_settings
        self._audit_settings = audit_settings
        self._auditing = asyncio.Lock()
        self._one_at_a_time = asyncio.Lock()
        self._beating = asyncio.Lock()
        self._caught_up: CaughtUp | None = None

    async def discover(self) -> DiscoverReport | None:
        """One discovery; None if it failed or the service is stopping."""

        async def run() -> DiscoverReport:
            report = await discover(self._connection)
            _log_report("discovered", self._connection.name, report, is_news=report.written > 0)
            self._knowledge.discovered_as_of = report.as_of
            await self.health.note("discovery", None)
            return report

        return await self._alone("discovery", run)

    async def pull(self) -> None:
        """Pull until caught up, in turns between which other jobs run: a backfill may take hours."""
        while (report := await self.pull_turn(turn_s=TURN_S)) and report.left_over and not report.errors:
            pass

    async def pull_turn(
        self, *, turn_s: float = math.inf, on_progress: Callable[[PullReport], None] = lambda report: None
    ) -> PullReport | None:
        """One pull of about `turn_s` seconds; None if it failed as a whole or the service is stopping."""

        async def run() -> PullReport:
            ends_s = time.monotonic() + turn_s
            report = await pull(
                self._connection, self._pull_settings, on_progress, is_turn_over=lambda: time.monotonic() >= ends_s
            )
            _log_report("pulled", self._connection.name, report, is_news=report.written > 0)
            if report.caught_up:
                self._caught_up = report.caught_up
                self._knowledge.caught_up_as_of = report.caught_up.as_of
            if not report.stopped:
                await self.health.note("pull", report.errors[0] if report.errors else None)
            return report

        return await self._alone("pull", run)

    async def audit(self) -> None:
        """Compare the whole mirror with the API, and mend it; beside the other jobs, since it takes hours."""

        async def run() -> AuditReport:
            report = await audit(self._connection, self._audit_settings)
            tell = log.warning if report.drift or report.errors else log.info
            tell(
                "audited", connection=self._connection.name, vouchers=len(report.vouchers), codes=report.codes,
                drift=report.drift, repaired=report.repaired, errors=len(report.errors),
            )  # fmt: skip
            braked = AuditBraked(report.braked) if report.braked else None
            await self.health.note("audit", braked or next(iter(report.errors), None))
            return report

        await self._alone("audit", run, self._auditing)

    async def resume_audit(self) -> None:
        """Go on with an audit that another process has left."""
        with suppress(VoucherSyncError):  # the database's troubles are told by the other jobs
            async with transaction(self._connection.engine) as tx:
                is_left = await has_unfinished(tx, self._connection.name)
            if is_left:
                await self.audit()

    async def beat(self) -> None:
        """Note in the database that this process is alive and how far it has caught up."""
        async with self._beating:
            if self._connection.stop.is_set():
                return
            try:
                async with transaction(self._connection.engine) as tx:
                    await connections.beat(tx, self._connection.name, self._caught_up)
            except VoucherSyncError as error:
                await self.health.note("heartbeat", error)
            else:
                await self.health.note("heartbeat", None)
            self.outbox.log_pushed()

    async def idle(self) -> None:
        """Wait until nothing is running."""
        async with self._one_at_a_time, self._beating, self._auditing:
            return

    async def wake_outbox(self) -> None:
        """Look for what is due and has not made itself heard: what waited for its time, or a lost notification."""
        self.outbox.wake.set()

    async def _alone(self, job: str, run: Callable[[], Awaitable[R]], lock: asyncio.Lock | None = None) -> R | None:
        async with lock or self._one_at_a_time:
            if self._connection.stop.is_set():
                return None
            try:
                return await run()
            except Stopped:
                return None
            except VoucherSyncError as error:
                await self.health.note(job, error)
                return None
            except Exception as error:
                log.exception("defect", connection=self._connection.name, job=job)
                await self.health.note(
                    job, Defect(f"{job} ended with {type(error).__name__}, which is a fault of ours")
                )
                return None


async def run_until_stopped(jobs: Jobs, intervals: Intervals, stop: asyncio.Event) -> None:
    """Push, and fire every job at its intervals, until `stop`; then let what is in flight end."""
    scheduler = AsyncIOScheduler(
        timezone=UTC,
        # The default drops a run that is a second late, as after a stalled loop or a suspended machine.
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    _every(scheduler, intervals.discovery_s, jobs.discover)
    _every(scheduler, intervals.pull_s, jobs.pull)
    _every(scheduler, intervals.heartbeat_s, jobs.beat)
    _every(scheduler, intervals.push_poll_s, jobs.wake_outbox)
    _every(scheduler, intervals.push_poll_s, jobs.outbox.look_up)
    _every(scheduler, PRUNE_INTERVAL_S, jobs.outbox.prune)
    _every(scheduler, RESUME_INTERVAL_S, jobs.resume_audit)
    scheduler.add_job(_quietly(jobs.audit), CronTrigger.from_crontab(intervals.audit_cron, timezone=UTC), name="audit")
    pushing = asyncio.create_task(jobs.outbox.run())
    scheduler.start()
    try:
        await stop.wait()
        scheduler.pause()
        jobs.outbox.wake.set()
        async with asyncio.timeout(GRACE_S):
            await jobs.idle()
            await asyncio.shield(pushing)
    except TimeoutError:
        log.warning("stopping_in_the_middle", after_s=GRACE_S)
    finally:
        scheduler.shutdown(wait=False)  # cancels what is left
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)
        await jobs.idle()


def _every(scheduler: AsyncIOScheduler, interval_s: float, job: Callable[[], Awaitable[object]]) -> None:
    trigger = IntervalTrigger(seconds=interval_s, jitter=interval_s * JITTER, timezone=UTC)
    scheduler.add_job(_quietly(job), trigger, next_run_time=datetime.now(UTC), name=job.__name__)


def _quietly(job: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        # A job that is cancelled because the grace is over would be logged as one that failed.
        with suppress(asyncio.CancelledError):
            await job()

    return run


def _log_report(event: str, connection: str, report: DiscoverReport | PullReport, *, is_news: bool) -> None:
    """Counts, at INFO only where something was written; and as warnings what is left out or could not be stored."""
    counts = {name: value for name, value in asdict(report).items() if isinstance(value, int)}
    (log.info if is_news else log.debug)(event, connection=connection, **counts)
    if report.refused:
        _warn_of_skipped("refused", connection, event, report.refused)
    if isinstance(report, DiscoverReport) and report.unlisted:
        _warn_of_skipped("unlisted", connection, event, report.unlisted)
    if report.rejected:
        log.warning("rejected_records", connection=connection, flow=event, new=report.rejected)


def _warn_of_skipped(reason: str, connection: str, flow: str, ids: Sequence[UUID]) -> None:
    shown = [str(one) for one in ids[:MAX_IDS_LOGGED]]
    log.warning("skipped", reason=reason, connection=connection, flow=flow, count=len(ids), ids=shown)
