"""The audit of one connection: at its time, and made up for where that passed without one."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from sync.audit.context import AuditSettings
from sync.audit.due import Standing, load_standing, load_standings
from sync.audit.run import audit
from sync.connection.connection import Connection
from sync.connection.guard import verify
from sync.core.cron import Cron
from sync.core.errors import AuditMissed, AuditRunning, DatabaseError, VoucherSyncError
from sync.logger import structlog
from sync.postgres.engine import in_transaction
from sync.service.runner import Runner
from sync.signals import Turn

LATE = timedelta(minutes=1)
"""An audit that has been due for less may be about to begin, here or in another process."""

log = structlog.get_logger()


class AuditJobs:
    """Audits beside the other jobs, since each takes hours; one at a time. `cron` says when."""

    __slots__ = (
        "_auditing", "_connection", "_health", "_history", "_is_owed", "_runner", "_settings", "_told_after", "cron",
    )  # fmt: skip

    def __init__(self, connection: Connection, settings: AuditSettings, cron: Cron, runner: Runner) -> None:
        self._connection = connection
        self._settings = settings
        self.cron = cron
        self._runner = runner
        self._health, self._history = runner.health, runner.history
        self._auditing = Turn()
        self._is_owed = False
        self._told_after: datetime | None = None

    async def begin(self) -> None:
        """Compare the whole mirror with the API now, since it is time; one that is under way is as good."""
        if not self._auditing.locked():
            self._is_owed = True
            await self._audit()

    async def look(self) -> Mapping[str, Standing] | None:
        """What stands of the audits of all connections, for who makes them up together; None: it is not known."""
        try:
            return await in_transaction(self._connection.engine, load_standings)
        except DatabaseError:
            return None  # who looks for each alone meets the same, and tells it

    def is_to_make_up(self, standings: Mapping[str, Standing]) -> bool:
        """Whether there is anything to make up for, or to go on with, or a failure to look after."""
        standing = standings.get(self._connection.name)
        may_be = standing is None or standing.is_left or self._missed(standing) is not None
        return may_be or self._health.is_failing("audit")

    async def make_up(self) -> None:
        """Go on with an audit that another process has left, or begin one whose time has passed."""
        if self._auditing.locked():
            return
        try:
            name = self._connection.name
            standing = await in_transaction(self._connection.engine, lambda tx: load_standing(tx, name))
        except VoucherSyncError as error:
            await self._health.note("audit", error)
            return
        if standing.is_left:
            await self._audit()
        elif missed_at := self._missed(standing):
            if standing.last_at != self._told_after:  # else it is tried once more, after a failure that was told
                self._told_after = standing.last_at
                await self._tell_missed(missed_at)
            await self._audit()
        elif self._health.is_outage("audit"):
            await self._health.note("audit", None)

    async def idle(self) -> None:
        """Wait until nothing is running."""
        async with self._auditing:
            return

    def _missed(self, standing: Standing) -> datetime | None:
        """When the audit was due that has not begun, if there is one."""
        if standing.is_open or standing.last_at is None:
            return None
        # All by the database's clock: two clocks that differ would make an audit for each of them.
        due_at = self.cron.next_after(standing.last_at)
        if self._is_owed:
            return min(due_at, standing.now)
        return due_at if due_at <= standing.now - LATE else None

    async def _tell_missed(self, due_at: datetime) -> None:
        log.warning("audit_missed", connection=self._connection.name, due_at=due_at.isoformat())
        missed = AuditMissed(
            f"the audit of {due_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC did not begin, since no daemon was running, "
            "this connection was paused or the database or the API could not be used; it is made up for now"
        )
        await self._history.note("audit", time.monotonic(), {}, missed, is_news=True)

    async def _audit(self) -> None:
        async def run(began_s: float) -> None:
            try:
                await verify(self._connection)
                report = await audit(self._connection, self._settings)
            except AuditRunning as running:
                log.info("audit_under_way", connection=self._connection.name, reason=str(running))
                await self._health.note("audit", None)
            else:
                (log.info if report.is_clean and not report.drift else log.warning)(
                    "audited", connection=self._connection.name, **report.totals()
                )
                await self._runner.note("audit", began_s, report.totals(), report.error, is_news=True)
            self._is_owed = False

        await self._runner.run("audit", self._auditing, run)
