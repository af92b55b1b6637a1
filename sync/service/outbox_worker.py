"""The outbox of one connection: pushed whenever something wakes it, looked up and tidied now and then."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from random import Random

from sync.connection.connection import Connection
from sync.connection.guard import verify
from sync.core.api_errors import ApiError
from sync.core.errors import Stopped, VoucherSyncError
from sync.logger import structlog
from sync.mirror.freshness import MirrorFreshness
from sync.mirror.read_back import read_deleted
from sync.outbox import left_over, retention, routing
from sync.outbox.claim_watch import ClaimWatch
from sync.outbox.claims import as_daemon
from sync.outbox.completer import PushReport
from sync.outbox.push import Pusher
from sync.outbox.reconcile import reconcile
from sync.outbox.send import PushSettings
from sync.postgres.engine import in_transaction
from sync.service.defects import outlived
from sync.service.health import Health
from sync.service.history import History, counts_of
from sync.service.push_all import PushAll
from sync.service.report_log import warn_of_changes
from sync.signals import Turn, Wake

AFTER_DEFECT_S = 5.0
REFRESH_AGAIN_S = 5.0
"""A change that names an unknown code waits for a pull that began long enough after it; pulls without a pause would
spend the whole budget until then, or as long as they fail."""
AFTER_FAILED_REFRESH_S = 60.0
log = structlog.get_logger()
_rng = Random()  # noqa: S311 - spreads retries, keeps no secret; one for all connections of a process

Refresh = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """How the outbox is pushed, and how long finished rows are kept."""

    push: PushSettings
    keep: timedelta


class OutboxJobs:
    """Once begun, `wake` has it look for what is due. It calls `ask_refresh` where rows wait for a discovery or a pull,
    again and again; then `refresh` is to be run.

    `freshness`: how fresh the mirror is, as whoever reads it has told. `totals` counts what was pushed since the
    process began, by the names of `PushReport`.
    """

    __slots__ = (
        "_connection", "_ended", "_has_begun", "_health", "_history", "_is_looking", "_made",
        "_next_read_back_s", "_next_refresh_s", "_pruned", "_pushed", "_pushing_since_s", "_reconciling",
        "_rests_until_s", "_runs", "_settings", "ask_refresh", "freshness", "totals", "wake", "watch",
    )  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        settings: OutboxSettings,
        health: Health,
        history: History,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._health = health
        self._history = history
        self.wake = Wake(self._look)
        self._has_begun = self._is_looking = False
        self._rests_until_s = 0.0
        self._runs = list[asyncio.Task[None]]()
        self.ask_refresh: Callable[[], None] = lambda: None
        self.freshness = MirrorFreshness(visible_after=settings.push.read_after_write_delay)
        self._made: Pusher | None = None
        self._ended = 0
        self.watch = ClaimWatch(settings.push.lease)
        self._next_refresh_s = time.monotonic()
        self._reconciling = Turn()
        self._next_read_back_s = time.monotonic()
        self._pruned: tuple[datetime, int] | None = None
        self._pushed, self._pushing_since_s = PushReport(), time.monotonic()
        self.totals: Counter[str] = Counter()

    @property
    def ended(self) -> int:
        """How many changes became done or failed by a push of this process."""
        return self._ended + (self._made.ended if self._made else 0)

    @property
    def has_pushed(self) -> bool:
        """Whether anything was pushed that nobody was told of."""
        return any(counts_of(self._pushed).values())

    @property
    def _pusher(self) -> Pusher:
        if self._made is None:
            connection, settings = self._connection, self._settings.push
            freshness, watch = lambda: self.freshness, self.watch
            self._made = Pusher(connection, settings, freshness, self.wake, watch=watch, rng=_rng)
        return self._made

    def rest(self) -> None:
        """Keep nothing of how it is pushed, since nothing in it is unfinished and nothing fails."""
        if self._made is not None and not self._runs:
            self._ended, self._made = self.ended, None

    def begin(self) -> None:
        """Push whatever is due, and from now on whatever `wake` is set for, until the service stops."""
        self._has_begun = True
        self.wake.set()

    async def idle(self) -> None:
        """Wait for the calls in flight."""
        while self._runs:
            await asyncio.wait(self._runs)

    def cancel(self) -> None:
        """End what is under way."""
        for run in self._runs:
            run.cancel()

    def _look(self) -> None:
        """Look, if nobody does so: who looks finds by itself that `wake` was set meanwhile."""
        is_in_vain = self._is_looking or time.monotonic() < self._rests_until_s or self._connection.stop.is_set()
        if self._has_begun and not is_in_vain:
            self._is_looking = True
            run = asyncio.create_task(self._run())
            self._runs.append(run)
            run.add_done_callback(self._runs.remove)

    async def _run(self) -> None:
        """Push until nothing more is due, and wait for the answers: beside that, others may look."""
        with outlived("push", connection=self._connection.name) as ending:
            async with asyncio.TaskGroup() as calls:
                try:
                    await self._push_all_due(calls)
                finally:
                    self._is_looking = False
        if ending.error:
            await self._health.note("push", ending.error)
            self._rests_until_s = time.monotonic() + AFTER_DEFECT_S
            await self._wait(AFTER_DEFECT_S)
            self._rests_until_s = 0.0
            self.wake.set()

    async def _push_all_due(self, calls: asyncio.TaskGroup) -> None:
        while self.wake.is_set() and not self._connection.stop.is_set():
            self.wake.clear()
            while await self._push_due(calls) and not self._connection.stop.is_set():
                self.wake.clear()

    async def look_up(self) -> VoucherSyncError | None:
        """Reconcile what is uncertain, as far as it is due; why nothing of it could be."""
        async with self._reconciling:
            if self._connection.stop.is_set():
                return None
            began_s = time.monotonic()
            try:
                await verify(self._connection)
                report = await reconcile(self._connection, self.watch, self._settings.push.read_after_write_delay)
                await self._read_deleted()
                is_mended = await self._is_push_mended()
            except Stopped:
                return None
            except VoucherSyncError as error:
                await self._health.note("settle", error)
                return error
            if is_mended:
                await self._health.note("push", None)
            await self._health.note("settle", report.errors[0] if report.errors else None)
            counts = counts_of(report)
            is_news = any(counts.values())
            if is_news:
                log.info("settled", connection=self._connection.name, **counts)
            await self._history.note("settle", began_s, counts, next(iter(report.errors), None), is_news=is_news)
            self.wake.set()
            return None

    async def _read_deleted(self) -> None:
        """Read back what was deleted, and what no pull has shown since: a code without `UpdatedUtc` is in no window."""
        if time.monotonic() >= self._next_read_back_s:
            delay = self._settings.push.read_after_write_delay
            self._next_read_back_s = time.monotonic() + delay.total_seconds()
            await read_deleted(self._connection, least_age=delay)

    async def find_earlier(self) -> None:
        """Find what is due and no look has seen."""
        with suppress(VoucherSyncError):  # the database's troubles are told by the other jobs, every few seconds
            await self._pusher.find_earlier()

    async def take_left_behind(self) -> None:
        """Take changes of its vouchers that wait for a connection that nobody works for."""
        take = partial(routing.take_left_behind, connection=self._connection.name)
        with suppress(VoucherSyncError):  # the database's troubles are told by the other jobs, every few seconds
            if await in_transaction(self._connection.engine, take, as_daemon):
                self.wake.set()

    async def refresh(self, discover: Refresh, pull: Refresh) -> bool:
        """Make the mirror fresh for rows that wait for it; whether that went well."""
        if (found := await discover() if self._pusher.waiting.discovery else True) is not None:
            await pull()
        has_failed = found is None or self._health.is_failing("pull")
        self._next_refresh_s = time.monotonic() + (AFTER_FAILED_REFRESH_S if has_failed else REFRESH_AGAIN_S)
        self.wake.set()
        return not has_failed

    async def prune(self) -> None:
        """Delete what was finished long ago."""
        with suppress(VoucherSyncError):  # the database's troubles are told by the other jobs, every few seconds
            prune = partial(retention.prune, keep=self._settings.keep, after=self._pruned)
            self._pruned = (await in_transaction(self._connection.engine, prune, as_daemon)).reached

    async def push_all(self, refresh: Callable[[], Awaitable[bool]] | None = None) -> PushReport:
        """Send everything that is due, and reconcile what is or becomes uncertain, unless that takes too long.

        `refresh`: this one's, for what names a voucher or code that the mirror does not show yet; without, such rows
        are left. The report has no errors if nothing is left of them.
        """
        total = await PushAll(self._connection, self._settings.push, self._pusher, self.look_up, refresh).run()
        # What it leaves for another reason is no failure of the connection, as what somebody has locked.
        failed = [one for one in total.errors.values() if isinstance(one, ApiError)]
        await self._note_calls(total, failed if await self._is_anything_left() else [])
        self._note_pushed(total)
        await self.tell_pushed()
        return total

    async def _note_calls(self, report: PushReport, errors: Sequence[VoucherSyncError]) -> None:
        """Note whether calls fail, if any was answered or failed."""
        if errors or report.done:
            await self._health.note("push", next(iter(errors), None))

    async def _wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._connection.stop.wait(), seconds)

    def _take_report(self, pusher: Pusher) -> PushReport:
        report = pusher.take_report()
        self._note_pushed(report)
        warn_of_changes(self._connection.name, report)
        return report

    def _note_pushed(self, report: PushReport) -> None:
        self._pushed.add(report)
        self.totals.update(+Counter(counts_of(report)))

    async def tell_pushed(self, *, is_last: bool = False) -> None:
        """Tell what was pushed since the last time, if anything was; `is_last`: after which no push takes a report."""
        if is_last and self._made is not None:
            self._take_report(self._made)
        report, began_s = self._pushed, self._pushing_since_s
        self._pushed, self._pushing_since_s = PushReport(), time.monotonic()
        counts = counts_of(report)
        if any(counts.values()):
            # In an outage the same rows are given back again and again, for days.
            is_news = bool(report.done or report.failed or report.held or report.refused)
            (log.info if is_news else log.debug)("pushed", connection=self._connection.name, **counts)
            error = next(iter(report.errors.values()), None)
            await self._history.note("push", began_s, counts, error, is_news=is_news)

    async def _push_due(self, calls: asyncio.TaskGroup) -> bool:
        """Push for a turn; whether more is due."""
        if not self.has_pushed:
            self._pushing_since_s = time.monotonic()
        has_more = False
        try:
            await verify(self._connection)
            has_more = await self._pusher.start_due(calls)
        except Stopped:
            return False
        except VoucherSyncError as error:
            await self._health.note("outbox", error)
        else:
            await self._health.note("outbox", None)
        report = self._take_report(self._pusher)
        await self._note_calls(report, [*report.errors.values()])
        waiting = self._pusher.waiting
        if (waiting.discovery or waiting.pull) and time.monotonic() >= self._next_refresh_s:
            self.ask_refresh()
        return has_more

    async def _is_push_mended(self) -> bool:
        """Whether nothing is left of a push that failed: after a look that found a lost answer, no push follows."""
        return self._health.is_failing("push") and not await self._is_anything_left()

    async def _is_anything_left(self) -> bool:
        # Of a change whose voucher is hidden no other call may ever tell that calls do not fail any more.
        left = partial(left_over.has_backlog, connection=self._connection.name, with_hidden=False)
        return await in_transaction(self._connection.engine, left)
