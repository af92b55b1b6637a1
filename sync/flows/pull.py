"""The incremental pull: reads every window that is due, page by page, several windows at a time.

A step reads one page and commits it together with what it means for its window, so that a crash between any two steps
loses nothing and repeats at most the page in flight.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.db import mirror, rejected, skipped, watermarks
from sync.db.engine import in_transaction
from sync.db.watermarks import CaughtUp, Group, Reading, Work
from sync.flows.connection import Connection
from sync.flows.refused import refused_among
from sync.flows.store import CODES, store_page
from sync.mews import operations
from sync.mews.pages import Page
from sync.model.errors import (
    ApiError,
    CircuitOpen,
    InvalidRequest,
    NotConnected,
    StatementRefused,
    Stopped,
    TooHeavy,
    Unauthorized,
    Unreadable,
    WrongAddress,
)
from sync.model.limits import Window
from sync.model.records import VoucherCode
from sync.model.windows import Pace, ease, plan_backfill, plan_pull, split

R = TypeVar("R")

READERS = 8
"""Windows read at once. At 200 ms a call, two readers already use up the API's budget; the rest is for slower days."""

MAX_ROUNDS = 10
MAX_RESTARTS = 10
CLOCK_JITTER = timedelta(seconds=2)
"""Two looks at the server's clock, which shows whole seconds, may differ by so much."""
FRESH = timedelta(days=1)
MAX_OPEN_WINDOWS = 200
"""Of one plan; more than that are not opened while an API that fails leaves them open."""

CONCERNS_ALL = (Unauthorized, WrongAddress, NotConnected, CircuitOpen, StatementRefused)
"""After one of these the other windows are left for the next pull; any other error keeps only its own window open."""


@dataclass(slots=True)
class PullReport:
    """What one pull did: windows read to their end of those planned, codes read, and rows written.

    `errors` holds what kept windows from their end; they stay open for the next pull. `left_over`: the turn was over
    before everything was read. `caught_up` is None unless nothing was left to read.
    """

    windows_planned: int = 0
    windows_done: int = 0
    pages: int = 0
    codes: int = 0
    written: int = 0
    rejected: int = 0
    refused: list[UUID] = field(default_factory=list)
    errors: list[ApiError | StatementRefused] = field(default_factory=list)
    stopped: bool = False
    left_over: bool = False
    caught_up: CaughtUp | None = None


@dataclass(frozen=True, slots=True)
class PullSettings:
    """How far windows reach back behind the watermark, and where a backfill begins (None: at the oldest voucher)."""

    overlap: timedelta
    backfill_from: datetime | None = None


async def pull(
    connection: Connection,
    settings: PullSettings,
    on_progress: Callable[[PullReport], None] = lambda report: None,
    *,
    is_turn_over: Callable[[], bool] = lambda: False,
) -> PullReport:
    """Read until caught up with the server's clock, or until the turn is over. Raises `DatabaseError` in its variants.

    After a backfill, which may take hours, another round reads what changed meanwhile. A turn that ends leaves open
    windows, and the next one goes on with them after it has read what is new.
    """
    report = PullReport()
    try:
        for _ in range(MAX_ROUNDS):
            round_ = _Round(connection, settings, report, on_progress, is_turn_over)
            if not await round_.run():
                break
    except Stopped:
        report.stopped = True
    except ApiError as error:
        report.errors.append(error)
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
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._report = report
        self._on_progress = on_progress
        self._is_turn_over = is_turn_over
        self._resolving = asyncio.Lock()
        self._is_in_vain = False

    async def run(self) -> bool:
        """Read it; True if another round is worth while."""
        # In whole seconds, as windows are, or `caught_up` would claim the part of a second that no window reached.
        now = (await operations.server_now(self._connection.client)).replace(microsecond=0)

        async def plan(tx: AsyncConnection) -> tuple[Work, list[Reading], bool]:
            work = await watermarks.load_work(tx, self._connection.name, self._settings.backfill_from)
            return work, *await self._plan(tx, work, now)

        work, readings, has_backfill = await in_transaction(self._connection.engine, plan)
        self._report.windows_planned += len(readings)
        self._on_progress(self._report)
        await self._read_all(iter(readings))
        if self._report.errors or self._report.stopped or self._report.left_over:
            return False
        is_late = has_backfill or bool(work.open)
        if not is_late:
            self._report.caught_up = CaughtUp(as_of=work.as_of, through=now)
        return is_late

    async def _plan(self, tx: AsyncConnection, work: Work, now: datetime) -> tuple[list[Reading], bool]:
        overlap = self._settings.overlap
        if work.through and work.through > now + CLOCK_JITTER:
            await watermarks.set_back(tx, self._connection.name, now)
        backfills = list(
            plan_backfill(work.beginnings, now=now, overlap=overlap, backfill_from=self._settings.backfill_from)
        )
        at_once, later = list[Reading](), await self._extend_plans(tx, work.open, now)
        for plan in [*plan_pull(work.watermarks, now=now, overlap=overlap), *backfills]:
            if plan.is_backfill or len(plan.windows) > 1:
                later += await watermarks.open_plan(tx, self._connection.name, plan)
            else:
                at_once.append(Reading(Group(plan.voucher_ids, plan.pace), plan.windows[0]))
        return at_once + sorted(later, key=lambda reading: _urgency(reading.window, now)), bool(backfills)

    async def _extend_plans(self, tx: AsyncConnection, opened: Sequence[Reading], now: datetime) -> list[Reading]:
        """The open windows, and what is new for their vouchers: a window that fails must not keep it back."""
        groups = {reading.group.plan_id: reading.group for reading in opened}
        count = Counter(reading.group.plan_id for reading in opened)
        readings = [*opened]
        for plan_id, group in groups.items():
            if group.end and group.end < now and count[plan_id] < MAX_OPEN_WINDOWS:
                # After an outage of months, what is new is more than a window may hold.
                to_read = list(split(group.end - self._settings.overlap, now, group.pace.window_limit))
                readings += await watermarks.extend(tx, group, to_read)
        # The later reading of a plan and a start is the one that stands.
        return list({(reading.group.plan_id, reading.window.start): reading for reading in readings}.values())

    async def _read_all(self, readings: Iterator[Reading]) -> None:
        try:
            async with asyncio.TaskGroup() as readers:
                for _ in range(READERS):
                    readers.create_task(self._read_some(readings))
        except ExceptionGroup as group:
            # One reader's fault ends the others; the first tells the cause.
            raise group.exceptions[0] from group

    async def _read_some(self, readings: Iterator[Reading]) -> None:
        for reading in readings:
            if self._is_in_vain or self._report.stopped:
                return
            if self._is_turn_over():
                self._report.left_over = True
                return
            try:
                await self._read_window(reading)
            except Stopped:
                self._report.stopped = True
            except (ApiError, StatementRefused) as error:
                self._report.errors.append(error)
                self._is_in_vain |= isinstance(error, CONCERNS_ALL)

    async def _read_window(self, first: Reading) -> None:
        """Read a window to its end, or the parts it is split into, oldest first."""
        left, seen, restarts = [first], set[UUID](), 0
        while left:
            reading, *others = left
            rest = await self._step(reading)
            left = [*rest, *others]
            if not rest:
                self._report.windows_done += 1
            elif (cursor := rest[0].cursor) != reading.cursor:
                # A cursor's own record that has changed is the newest now, and the listing goes on from there.
                if cursor is None or cursor in seen:
                    restarts += 1
                    seen.clear()
                if restarts > MAX_RESTARTS:
                    raise Unreadable(operations.VOUCHER_CODES_GET_ALL, "the pages of a window go round in a circle")
                if cursor is not None:
                    seen.add(cursor)
            self._on_progress(self._report)
            if left and self._is_turn_over():
                self._report.left_over = True
                return

    async def _step(self, reading: Reading) -> list[Reading]:
        """Read and commit one page; what is left of the window then, oldest first."""
        group = reading.group
        voucher_ids, pace = group.voucher_ids, group.pace
        if not voucher_ids:
            return []
        try:
            page = await operations.voucher_codes(
                self._connection.client, voucher_ids, reading.window, page_size=pace.page_size, cursor=reading.cursor
            )
        except TooHeavy as error:
            return await self._slow_down(reading, pace, error)
        except InvalidRequest as error:
            if error.names(operations.VOUCHER_IDS):
                return await self._drop_refused(reading, voucher_ids, error)
            if reading.cursor is not None:
                return [await self._begin_again(reading)]
            raise
        return await self._store(reading, page, pace)

    async def _store(self, reading: Reading, page: Page[VoucherCode], pace: Pace) -> list[Reading]:
        name, group, report = self._connection.name, reading.group, self._report
        is_last, has_plan = page.is_last(pace.page_size), group.plan_id is not None
        if not is_last and page.cursor == reading.cursor:
            raise Unreadable(operations.VOUCHER_CODES_GET_ALL, "the cursor does not advance")

        async def store(tx: AsyncConnection, page: Page[VoucherCode], written: int) -> tuple[int, int, list[Reading]]:
            _begin_anew(group, has_plan=has_plan)
            written += await mirror.store_voucher_codes(tx, name, page.records)
            rejected_now = await rejected.keep(tx, name, page.rejected)
            # A look that found nothing new leaves no trace: the next one reads the same window, a little longer.
            is_noted = bool(has_plan or written or rejected_now)
            if is_last:
                if is_noted:
                    await watermarks.complete(tx, reading)
                return written, rejected_now, []
            if is_noted:
                return written, rejected_now, [await watermarks.keep_cursor(tx, name, reading, page.cursor)]
            return written, rejected_now, [replace(reading, cursor=page.cursor)]

        written, rejected_now, rest = await store_page(self._connection, CODES, page, store)
        report.pages += 1
        report.codes += len(page.records)
        report.written += written
        report.rejected += rejected_now
        return rest

    async def _begin_again(self, reading: Reading) -> Reading:
        """The API no longer knows a cursor, and nothing else says which pages are left: read the window anew."""
        return await self._noted(
            reading.group, lambda tx: watermarks.keep_cursor(tx, self._connection.name, reading, None)
        )

    async def _slow_down(self, reading: Reading, tried: Pace, error: TooHeavy) -> list[Reading]:
        """Ask for less, from now on in every window of the group."""
        group, window = reading.group, reading.window
        slower = ease(tried, window) if group.pace == tried else group.pace
        if slower is None:
            raise error
        await self._connection.client.back_off()
        parts = list(split(window.start, window.end, slower.window_limit))
        rest = await self._noted(
            group, lambda tx: watermarks.slow_down(tx, self._connection.name, reading, slower, parts)
        )
        group.pace = slower
        self._report.windows_planned += len(rest) - 1
        return rest

    async def _drop_refused(self, reading: Reading, tried: tuple[UUID, ...], error: InvalidRequest) -> list[Reading]:
        """Find vouchers that the API refuses, remember them, and go on without them."""
        group = reading.group
        async with self._resolving:
            # Another window of the group may have met the same refusal, and have settled it meanwhile.
            if group.voucher_ids != tried:
                return [reading]
            refused = await refused_among(self._connection.client, tried, reading.window)
            await self._noted(group, lambda tx: skipped.refuse(tx, self._connection.name, "voucher", refused, error))
            group.voucher_ids = tuple(one for one in tried if one not in refused)
        self._report.refused += refused
        return [reading]

    async def _noted(self, group: Group, work: Callable[[AsyncConnection], Awaitable[R]]) -> R:
        """What `work` notes of a group, in a transaction."""
        has_plan = group.plan_id is not None

        async def again(tx: AsyncConnection) -> R:
            _begin_anew(group, has_plan=has_plan)
            return await work(tx)

        return await in_transaction(self._connection.engine, again)


def _begin_anew(group: Group, *, has_plan: bool) -> None:
    """Forget a plan that a failed try had opened: it is not there any more."""
    if not has_plan:
        group.plan_id = group.end = None


def _urgency(window: Window, now: datetime) -> tuple[bool, float]:
    """What is new goes first, the newest at the head, and need not wait for a backfill; the rest oldest first."""
    is_old = now - window.end > FRESH
    start_s = window.start.timestamp()
    return is_old, start_s if is_old else -start_s
