"""The jobs of one connection: each runs a flow, and tells what came of it."""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit.context import AuditSettings
from sync.connection.connection import Connection
from sync.connection.guard import verify
from sync.core.cron import Cron
from sync.core.errors import VoucherSyncError
from sync.mirror import counts
from sync.mirror.discover import DiscoverReport
from sync.mirror.pull import PullSettings, pull
from sync.mirror.pull_report import PullReport
from sync.mirror.quiet import QuietPulls
from sync.mirror.quiet_discovery import Discoveries
from sync.mirror.watermarks import CaughtUp
from sync.outbox.unfinished import Unfinished
from sync.postgres.engine import in_transaction
from sync.postgres.shared_look import Looked
from sync.service import request_failures, states
from sync.service.audit_worker import AuditJobs
from sync.service.health import Health
from sync.service.history import History, counts_of
from sync.service.looks import Looks
from sync.service.outbox_polls import OutboxPolls
from sync.service.outbox_worker import OutboxJobs, OutboxSettings
from sync.service.progress import Progress
from sync.service.report_log import log_report
from sync.service.runner import Runner
from sync.service.samples import Done, Sampler
from sync.signals import Signal, Turn

TURN_S = 20.0
"""After this a pull lets others have their turn: discovery, and what is new in vouchers that are mirrored already."""
WELL_ENDED = {"200", "cancelled"}
"""How a call ends that has not failed: one beside which another was sent, since it hung, is cancelled."""

Slot = AbstractAsyncContextManager[object]
ALWAYS: Slot = nullcontext()


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What the jobs of all connections of a process go by, which holds a kilobyte.

    `late_after_s`: so long after it last caught up a connection does not get on.
    """

    pull: PullSettings
    outbox: OutboxSettings
    audit: AuditSettings
    audit_cron: Cron
    late_after_s: float


class Jobs:
    """The flows of one connection: discovery and pull one at a time, and the outbox and the audit beside them.

    `cycle_completed` is set whenever a pull has caught up and nothing fails; whoever waits for the next one clears it.
    `has_pulled` is set once a pull has ended in any way. `looks` are those of all connections of the process.
    """

    __slots__ = (
        "_caught_up", "_caught_up_by", "_discoveries", "_fired_s", "_has_not_discovered", "_one_at_a_time", "_quiet",
        "_runner", "_telling", "audit", "connection", "cycle_completed", "has_pulled", "health", "history", "outbox",
        "polls", "progress", "sampler", "settings",
    )  # fmt: skip

    def __init__(self, connection: Connection, settings: JobSettings, looks: Looks) -> None:
        self.health = Health(connection)
        self.history = History(connection)
        self.progress = Progress()
        self.cycle_completed, self.has_pulled = Signal(), Signal()
        self._runner = Runner(connection, self.health, self.history)
        self.audit = AuditJobs(connection, settings.audit, settings.audit_cron, self._runner)
        self.outbox = OutboxJobs(connection, settings.outbox, self.health, self.history)
        self.polls = OutboxPolls(connection, self.outbox, self.health, looks.unfinished)
        self._quiet = QuietPulls(connection, looks.versions)
        self._discoveries = Discoveries(connection, looks.versions, self._quiet)
        self.connection, self.settings = connection, settings
        self._one_at_a_time = Turn()
        self._telling = Turn()
        self._caught_up: CaughtUp | None = None
        self._caught_up_by: int | None = None
        self._fired_s, self._has_not_discovered = time.monotonic(), False
        self.sampler = Sampler(self._done)

    async def discover(self) -> DiscoverReport | None:
        """One discovery; None if it failed or the service is stopping."""

        async def run(began_s: float) -> DiscoverReport:
            report = await self._discoveries.discover()
            log_report("discovered", self.connection.name, report, is_news=report.written > 0)
            self.outbox.freshness = replace(self.outbox.freshness, discovered_as_of=report.as_of)
            await self._runner.note("discovery", began_s, counts_of(report), None, is_news=report.written > 0)
            return report

        return await self._runner.run("discovery", self._one_at_a_time, run)

    async def pull(self, first: Slot = ALWAYS, others: Slot = ALWAYS) -> None:
        """Pull until caught up, in turns between which other jobs run: a backfill may take hours.

        `first`: what is held while the first turn goes on, and `others` while others do.
        """
        try:
            async with first:
                report = await self.pull_turn(turn_s=TURN_S)
        finally:
            self.has_pulled.set()
        while report and report.left_over and not report.errors:
            async with others:
                report = await self.pull_turn(turn_s=TURN_S)

    async def pull_turn(
        self, *, turn_s: float = math.inf, on_progress: Callable[[PullReport], None] = lambda report: None
    ) -> PullReport | None:
        """One pull of about `turn_s` seconds; None if it failed as a whole or the service is stopping."""

        def tell(report: PullReport) -> None:
            self.progress.note(report)
            on_progress(report)

        async def run(began_s: float) -> PullReport:
            await verify(self.connection)
            incarnation = self.connection.incarnation
            found = await incarnation.check(self.connection.engine)
            checked = None if incarnation.shows_in_s else found
            ends_s = began_s + turn_s
            self.progress.begin()
            report = await pull(
                self.connection,
                self.settings.pull,
                tell,
                is_turn_over=lambda: time.monotonic() >= ends_s,
                quiet=self._quiet,
                is_discovered=self.outbox.freshness.discovered_as_of is not None,
            )
            self.progress.end(report)
            await self._take(report, checked, began_s)
            return report

        return await self._runner.run("pull", self._one_at_a_time, run)

    async def _take(self, report: PullReport, checked: int | None, began_s: float) -> None:
        """Tell what a pull has done; `checked` as in `OutboxJobs.freshness`."""
        if report.written:
            await in_transaction(self.connection.engine, counts.merge)
        log_report("pulled", self.connection.name, report, is_news=report.written > 0)
        # What an earlier pull reached stands in the database, unless the server's clock was set back since.
        self._caught_up, self._caught_up_by = report.caught_up, checked
        if report.caught_up:
            as_of = report.caught_up.as_of
            self.outbox.freshness = replace(self.outbox.freshness, caught_up_as_of=as_of, checked=checked)
        if not report.stopped:
            error = report.errors[0] if report.errors else None
            await self._runner.note("pull", began_s, counts_of(report), error, is_news=report.written > 0)
        if report.caught_up and not self.health.errors:
            self.cycle_completed.set()

    async def prune(self) -> None:
        """Forget what was finished long ago, and make short what changes have counted that no pull has brought."""
        await self.outbox.prune()
        with suppress(VoucherSyncError):  # the database's troubles are told by the other jobs
            await self.history.prune()
            await in_transaction(self.connection.engine, counts.merge)

    async def rediscover(self) -> bool:
        """A discovery; whether it found what is to be pulled at once, since until then nothing was known that could be.

        So it is behind one that failed, and where a pull came first and had nothing to read.
        """
        had_nothing = self._has_not_discovered or not self.progress.totals.pages
        report = await self.discover()
        self._has_not_discovered = report is None
        return bool(had_nothing and report and report.written)

    async def tell(self) -> None:
        """Note in the database what is told of this connection alone: its state, failed calls, and what it may spend.

        What is told of all of a replica's at once, as how far each has caught up, `sync.service.heartbeats` tells.
        """
        async with self._telling:
            if self.connection.stop.is_set():
                return
            try:
                await self._note_state()
                await self.connection.client.rate_limiter.renew()
            except VoucherSyncError as error:
                await self.health.note("heartbeat", error)
            else:
                await self.health.note("heartbeat", None)
            await self.outbox.tell_pushed()

    async def tell_last(self) -> None:
        """Note what nobody learns once its work has ended: what was pushed, and which calls failed."""
        await self.outbox.tell_pushed(is_last=True)
        if failed := self.connection.client.failure_log.take():
            note = partial(request_failures.note, connection=self.connection.name, failed=failed)
            with suppress(VoucherSyncError):
                await in_transaction(self.connection.engine, note)

    async def _note_state(self) -> None:
        async def note(tx: AsyncConnection) -> VoucherSyncError | None:
            known = standing or missed
            unsaved = await states.note(tx, self.connection.name, standing, missed) if known else None
            await request_failures.note(tx, self.connection.name, failed)
            return unsaved

        standing, missed = self.health.standing, self.health.missed
        failure_log = self.connection.client.failure_log
        failed = failure_log.take()
        try:
            unsaved = await in_transaction(self.connection.engine, note)
        except BaseException:
            failure_log.put_back(failed)
            raise
        if unsaved:
            raise unsaved

    def take_caught_up(self) -> CaughtUp | None:
        """How far a pull has caught up since this was last asked; None: no further.

        None too where the database was found anew since that pull began, and has lost what it went by.
        """
        reached, self._caught_up = self._caught_up, None
        finding = self.connection.incarnation.finding
        return reached if finding is not None and self._caught_up_by == finding else None

    def has_to_tell(self, failing: Mapping[str, str | None]) -> bool:
        """Whether `tell` has anything to note; `failing`: why connections fail, as their rows have it."""
        standing, client = self.health.standing, self.connection.client
        is_told = standing is None or standing.error == failing.get(self.connection.name)
        has_news = bool(client.failure_log) or self.outbox.has_pushed
        return has_news or not is_told or client.rate_limiter.is_to_renew or self.health.is_failing("heartbeat")

    def _done(self) -> Done:
        """What this process has done so far."""
        calls = self.connection.client.traffic.calls
        failed = sum(count for (_, ended), count in calls.items() if ended not in WELL_ENDED)
        codes = self.progress.totals.written + self.outbox.totals["done"]
        return Done(codes, sum(calls.values()), failed)

    async def idle(self) -> None:
        """Wait until nothing is running."""
        async with self._one_at_a_time, self._telling:
            await self.audit.idle()

    async def wake_outbox(self) -> None:
        """Look for what is due and has not made itself heard: what waited for its time, or a lost notification."""
        self._fired_s = time.monotonic()
        await self.polls.wake()

    def is_to_be_polled(self, looked: Looked[Unfinished] | None) -> bool:
        """Whether its outbox has anything to do, by a look for all of the process; to be asked is a sign of life."""
        self._fired_s = time.monotonic()
        if is_needless := self.polls.are_needless(looked):
            self.outbox.rest()
        return not is_needless

    def has_to_send(self, looked: Looked[Unfinished] | None) -> bool:
        """Whether its outbox may have anything to send, by a look for all of the process."""
        return looked is None or looked.found.has_to_send(self.connection.name)

    def is_moving(self, within_s: float) -> bool:
        """Whether the scheduler has fired the job that it fires most often within so many seconds."""
        return time.monotonic() - self._fired_s <= within_s
