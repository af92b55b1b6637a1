"""Reading one window: page by page, each committed together with what it means for its window.

A crash between any two steps loses nothing and repeats at most the page in flight.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.core.api_errors import InvalidRequest, InvalidResponse, RequestTimedOut
from sync.core.tracing import span
from sync.mews import operations
from sync.mews.pages import CursorTrail, Page
from sync.mews.records import VoucherCode
from sync.mirror import rejected, skipped, upsert, watermarks
from sync.mirror.pending_reads import Group, WindowRead
from sync.mirror.pull_report import PullReport
from sync.mirror.refused_vouchers import refused_among
from sync.mirror.store import CODES, store_page
from sync.mirror.windows import ReadLimits, reduce, split
from sync.postgres.engine import in_transaction

R = TypeVar("R")

MAX_RESTARTS = 10
MAX_PAGES_BEYOND = 500
"""So many pages of what is new are read after the turn is over. Cut by it, a window would stay open beside the one that
the next turn begins, which reads the whole overlap again: where that takes longer than a turn, they only add up."""


class WindowReader:
    """Reads windows of one round, several at a time, and counts in its report what they brought."""

    def __init__(
        self,
        connection: Connection,
        report: PullReport,
        on_progress: Callable[[PullReport], None],
        is_turn_over: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._report = report
        self._on_progress = on_progress
        self._is_turn_over = is_turn_over
        self._resolving = asyncio.Lock()
        self._pages_beyond = 0

    def is_over(self, *, is_new: bool) -> bool:
        """Whether the next page is left to the next turn; `is_new`: it is one of what is new."""
        if not self._is_turn_over():
            return False
        self._pages_beyond += is_new
        return not is_new or self._pages_beyond > MAX_PAGES_BEYOND

    async def read(self, first: WindowRead, *, is_new: bool) -> None:
        """Read a window to its end, or the parts it is split into, oldest first; or until it is over for this turn."""
        window, vouchers = first.window, len(first.group.voucher_ids)
        with span("window", start=window.start.isoformat(), end=window.end.isoformat(), vouchers=vouchers):
            await self._read(first, is_new=is_new)

    async def _read(self, first: WindowRead, *, is_new: bool) -> None:
        left, trail = [first], CursorTrail(operations.VOUCHER_CODES_GET_ALL, restarts=MAX_RESTARTS)
        while left:
            reading, *others = left
            rest = await self._step(reading)
            left = [*rest, *others]
            if not rest:
                self._report.windows_done += 1
            elif rest[0].cursor != reading.cursor:
                trail.follow(rest[0].cursor)
            self._on_progress(self._report)
            if left and self.is_over(is_new=is_new):
                await self._keep_place(left[0])
                self._report.left_over = True
                return

    async def _keep_place(self, reading: WindowRead) -> None:
        """Write down where a window goes on that brought nothing new so far: it would begin anew in each turn."""
        if reading.group.plan_id is None:
            name, cursor = self._connection.name, reading.cursor
            await self._noted(reading.group, lambda tx: watermarks.keep_cursor(tx, name, reading, cursor))

    async def _step(self, reading: WindowRead) -> list[WindowRead]:
        """Read and commit one page; what is left of the window then, oldest first."""
        group = reading.group
        voucher_ids, read_limits = group.voucher_ids, group.read_limits
        if not voucher_ids:
            return []
        try:
            page = await operations.voucher_codes(
                self._connection.client,
                voucher_ids,
                reading.window,
                page_size=read_limits.page_size,
                cursor=reading.cursor,
            )
        except RequestTimedOut as error:
            return await self._reduce(reading, read_limits, error)
        except InvalidRequest as error:
            if error.names(operations.VOUCHER_IDS):
                return await self._drop_refused(reading, voucher_ids, error)
            if reading.cursor is not None:
                return [await self._begin_again(reading)]
            raise
        return await self._store(reading, page, read_limits)

    async def _store(self, reading: WindowRead, page: Page[VoucherCode], read_limits: ReadLimits) -> list[WindowRead]:
        name, group, report = self._connection.name, reading.group, self._report
        is_last, has_plan = page.is_last(read_limits.page_size), group.plan_id is not None
        if not is_last and page.cursor == reading.cursor:
            raise InvalidResponse(operations.VOUCHER_CODES_GET_ALL, "the cursor does not advance")
        if is_last and not (has_plan or page.records or page.rejected):
            report.pages += 1
            return []

        async def store(
            tx: AsyncConnection, page: Page[VoucherCode], written: int
        ) -> tuple[int, int, list[WindowRead]]:
            _begin_anew(group, has_plan=has_plan)
            written += await upsert.store_voucher_codes(tx, name, page.records)
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

        with span("page", codes=len(page.records)) as told:
            written, rejected_now, rest = await store_page(self._connection, CODES, page, store)
            told.set(written=written, rejected=rejected_now)
        report.pages += 1
        report.codes += len(page.records)
        report.written += written
        report.rejected += rejected_now
        return rest

    async def _begin_again(self, reading: WindowRead) -> WindowRead:
        """The API no longer knows a cursor, and nothing else says which pages are left: read the window anew."""
        return await self._noted(
            reading.group, lambda tx: watermarks.keep_cursor(tx, self._connection.name, reading, None)
        )

    async def _reduce(self, reading: WindowRead, tried: ReadLimits, error: RequestTimedOut) -> list[WindowRead]:
        """Ask for less, from now on in every window of the group."""
        group, window = reading.group, reading.window
        reduced = reduce(tried, window) if group.read_limits == tried else group.read_limits
        if reduced is None:
            raise error
        await self._connection.client.back_off()
        parts = list(split(window.start, window.end, reduced.window_limit))
        rest = await self._noted(
            group, lambda tx: watermarks.save_reduced(tx, self._connection.name, reading, reduced, parts)
        )
        group.read_limits = reduced
        self._report.windows_planned += len(rest) - 1
        return rest

    async def _drop_refused(
        self, reading: WindowRead, tried: tuple[UUID, ...], error: InvalidRequest
    ) -> list[WindowRead]:
        """Find vouchers that the API refuses, remember them, and go on without them."""
        group = reading.group
        async with self._resolving:
            # Another window of the group may have met the same refusal, and have dropped these vouchers meanwhile.
            if group.voucher_ids != tried:
                return [reading]
            refused = await refused_among(self._connection.client, tried, reading.window)
            if not refused:
                raise error  # none of them is by now, as where the API has just come to know one that it lists
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
