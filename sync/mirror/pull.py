"""The incremental pull: reads every window that is due, several at a time, and what is new before any backfill."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.connection.server_time import server_now
from sync.core.api_errors import ApiError, CircuitOpen, Discontinued, NotConnected, NotFound, Unauthorized
from sync.core.errors import ClockRefused, StatementRefused, Stopped
from sync.mews.limits import Window
from sync.mirror import rejected, watermarks
from sync.mirror.pending_reads import Group, PendingReads, WindowRead, load_pending_reads
from sync.mirror.pull_report import PullReport
from sync.mirror.quiet import MirrorVersions, QuietPulls
from sync.mirror.read_window import WindowReader
from sync.mirror.watermarks import CaughtUp
from sync.mirror.windows import plan_backfill, plan_pull, split
from sync.postgres.engine import in_transaction

READERS = 8
"""Windows read at once. At 200 ms a call, two readers already use up the API's budget; the rest is for slower days."""

MAX_ROUNDS = 10
CLOCK_JITTER = timedelta(seconds=2)
"""Two looks at the server's clock, which shows whole seconds, may differ by so much."""
FRESH = timedelta(days=1)
MAX_OPEN_WINDOWS = 200
"""Of one plan; more than that are not opened while an API that fails leaves them open."""

CONCERNS_ALL = (Unauthorized, NotFound, Discontinued, NotConnected, CircuitOpen, StatementRefused)
"""After one of these the other windows are left for the next pull; any other error keeps only its own window open."""


@dataclass(frozen=True, slots=True)
class PullSettings:
    """How far windows reach back behind the watermark, and where a backfill begins (None: at the oldest voucher).

    `head_start_s`: a window of a backfill waits so long at most for what is new, so that news which the API never
    answers cannot keep a backfill back for ever. It is half of the daemon's turn.
    """

    overlap: timedelta
    backfill_from: datetime | None = None
    head_start_s: float = 10.0


@dataclass(frozen=True, slots=True)
class _Due:
    """What one round reads: windows of what is new, and then the others, each in the order in which they begin."""

    new: list[WindowRead]
    old: list[WindowRead]
    has_backfill: bool


async def pull(
    connection: Connection,
    settings: PullSettings,
    on_progress: Callable[[PullReport], None] = lambda report: None,
    *,
    is_turn_over: Callable[[], bool] = lambda: False,
    quiet: QuietPulls | None = None,
    is_discovered: bool = True,
) -> PullReport:
    """Read until caught up with the server's clock, or until the turn is over. Raises `DatabaseError` in its variants.

    After a backfill, which may take hours, another round reads what changed meanwhile. A turn that ends leaves open
    windows, and the next one goes on with them after it has read what is new. `quiet`: what the last pull has left.
    `is_discovered`: vouchers have been looked for; else a connection that knows none has not caught up with anything.
    """
    report = PullReport()
    has_refused = True
    try:
        for _ in range(MAX_ROUNDS):
            round_ = _Round(
                connection, settings, report, on_progress, is_turn_over, quiet=quiet, is_discovered=is_discovered
            )
            is_worth_another = await round_.run()
            has_refused = round_.seen is None or connection.name in round_.seen.refused
            if not is_worth_another:
                break
    except Stopped:
        report.stopped = True
    except (ApiError, ClockRefused) as error:
        report.errors.append(error)
    if has_refused:
        await in_transaction(connection.engine, lambda tx: rejected.forget_stored(tx, connection.name))
    return report


class _Round:
    """Everything that is due at one instant of the server's clock."""

    def __init__(
        self,
        connection: Connection,
        settings: PullSettings,
        report: PullReport,
        on_progress: Callable[[PullReport], None],
        is_turn_over: Callable[[], bool],
        *,
        quiet: QuietPulls | None,
        is_discovered: bool,
    ) -> None:
        self.seen: MirrorVersions | None = None
        self._quiet = quiet
        self._is_discovered = is_discovered
        self._connection = connection
        self._settings = settings
        self._report = report
        self._on_progress = on_progress
        self._reader = WindowReader(connection, report, on_progress, is_turn_over)
        self._is_in_vain = False

    async def run(self) -> bool:
        """Read it; True if another round is worth while."""
        # In whole seconds, as windows are, or `caught_up` would claim the part of a second that no window reached.
        now = (await server_now(self._connection)).replace(microsecond=0)

        async def plan(tx: AsyncConnection) -> tuple[PendingReads, _Due]:
            work = await load_pending_reads(tx, self._connection.name, self._settings.backfill_from)
            return work, await self._plan(tx, work, now)

        self.seen = await self._quiet.look() if self._quiet else None
        recalled = self._recall(now)
        work, due = await in_transaction(self._connection.engine, plan) if recalled is None else recalled
        if is_set_back := _is_beyond(work, now):
            self._connection.client.server_clock.forget_leap()
        self._report.windows_planned += len(due.new) + len(due.old)
        self._on_progress(self._report)
        await self._read_all(due)
        if self._report.errors or self._report.stopped or self._report.left_over:
            return False
        # Where the clock was set back, another round plans by the watermarks that were just moved back.
        is_late = due.has_backfill or bool(work.open) or is_set_back
        is_known = self._is_discovered or work.through is not None or recalled is not None
        if is_known and not is_late:
            self._report.caught_up = CaughtUp(as_of=work.as_of, through=now)
            if self._quiet and self.seen:
                self._quiet.remember(work.watermarks, now, self.seen)
        return is_late

    def _recall(self, now: datetime) -> tuple[PendingReads, _Due] | None:
        """What there is to read as the last pull has left it, where that is one window for each group of vouchers."""
        marks = self._quiet.recall(self.seen) if self._quiet and self.seen else None
        if marks is None or self.seen is None:
            return None
        through = max((one.complete_through for one in marks), default=None)
        work = PendingReads([], list(marks), [], self.seen.now, through)
        plans = list(plan_pull(marks, now=now, overlap=self._settings.overlap))
        if any(len(plan.windows) > 1 for plan in plans) or _is_beyond(work, now):
            return None
        reads = [WindowRead(Group(plan.voucher_ids, plan.read_limits), plan.windows[0]) for plan in plans]
        return work, _Due(reads, [], has_backfill=False)

    async def _plan(self, tx: AsyncConnection, work: PendingReads, now: datetime) -> _Due:
        overlap = self._settings.overlap
        if _is_beyond(work, now):
            read_on_from = self._connection.client.server_clock.read_on_from(now)
            await watermarks.clamp_to_now(tx, self._connection.name, read_on_from)
        backfills = list(
            plan_backfill(work.candidates, now=now, overlap=overlap, backfill_from=self._settings.backfill_from)
        )
        at_once, new = list[WindowRead](), await self._extend_plans(tx, work.open, now)
        rest = _without(work.open, new)
        for plan in [*plan_pull(work.watermarks, now=now, overlap=overlap), *backfills]:
            if plan.is_backfill or len(plan.windows) > 1:
                rest += await watermarks.open_plan(tx, self._connection.name, plan)
            else:
                at_once.append(WindowRead(Group(plan.voucher_ids, plan.read_limits), plan.windows[0]))
        new += [reading for reading in rest if reading.window.start >= now - overlap - FRESH]
        return _Due(at_once + _by_urgency(new, now), _by_urgency(_without(rest, new), now), bool(backfills))

    async def _extend_plans(self, tx: AsyncConnection, opened: Sequence[WindowRead], now: datetime) -> list[WindowRead]:
        """What is new for the vouchers of open windows: one that fails must not keep it back."""
        groups = {reading.group.plan_id: reading.group for reading in opened}
        count = Counter(reading.group.plan_id for reading in opened)
        readings: list[WindowRead] = []
        for plan_id, group in groups.items():
            if group.end and group.end < now and count[plan_id] < MAX_OPEN_WINDOWS:
                # After an outage of months, what is new is more than a window may hold.
                to_read = list(split(group.end - self._settings.overlap, now, group.read_limits.window_limit))
                readings += await watermarks.extend(tx, group, to_read)
        return readings

    async def _read_all(self, due: _Due) -> None:
        """Read what is new, and only then the rest, which would else compete with it for sessions, budget and turn."""
        new, old = iter(due.new), iter(due.old)
        if not due.old and len(due.new) <= 1:  # as of nearly all hotels, nearly always: tasks would cost more than it
            await self._read_some(new, is_new=True)
            return
        try:
            async with asyncio.TaskGroup() as readers:
                first = [readers.create_task(self._read_some(new, is_new=True)) for _ in range(READERS)]
                await asyncio.wait(first, timeout=self._settings.head_start_s)
                for one in first:
                    readers.create_task(self._read_after(one, old))
        except ExceptionGroup as group:
            # One reader's fault ends the others; the first tells the cause.
            raise group.exceptions[0] from group

    async def _read_after(self, earlier: asyncio.Task[None], readings: Iterator[WindowRead]) -> None:
        await asyncio.wait([earlier])
        await self._read_some(readings, is_new=False)

    async def _read_some(self, readings: Iterator[WindowRead], *, is_new: bool) -> None:
        for reading in readings:
            if self._is_in_vain or self._report.stopped:
                return
            if self._reader.is_over(is_new=is_new):
                self._report.left_over = True
                return
            try:
                await self._reader.read(reading, is_new=is_new)
            except Stopped:
                self._report.stopped = True
            except (ApiError, StatementRefused) as error:
                self._report.errors.append(error)
                self._is_in_vain |= isinstance(error, CONCERNS_ALL)


def _is_beyond(work: PendingReads, now: datetime) -> bool:
    """Whether something was read through an instant that the server's clock, set back since, has not come to."""
    return work.through is not None and work.through > now + CLOCK_JITTER


def _without(readings: Iterable[WindowRead], others: Iterable[WindowRead]) -> list[WindowRead]:
    """Those of which no other one has both plan and start: of two such, the later one stands in the database."""
    taken = {(one.group.plan_id, one.window.start) for one in others}
    return [one for one in readings if (one.group.plan_id, one.window.start) not in taken]


def _by_urgency(readings: Iterable[WindowRead], now: datetime) -> list[WindowRead]:
    """The newest first as far as they reach into the last day; the rest oldest first, as the watermark follows."""
    return sorted(readings, key=lambda reading: _urgency(reading.window, now))


def _urgency(window: Window, now: datetime) -> tuple[bool, float]:
    is_old = now - window.end > FRESH
    start_s = window.start.timestamp()
    return is_old, start_s if is_old else -start_s
