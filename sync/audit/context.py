"""What the steps of one audit share."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.audit import candidates
from sync.audit import store as db
from sync.audit.report import AuditReport, VoucherReport
from sync.audit.store import Audit, Scope
from sync.connection.connection import Connection
from sync.core.api_errors import ApiError, InvalidRequest, InvalidResponse, RequestTimedOut
from sync.postgres.engine import in_transaction

G = TypeVar("G")
R = TypeVar("R")

COMPARED_AT_ONCE = 2
"""While the database compares one page, the next is made ready for it; more would keep sessions from other work."""
GROUPS_AT_ONCE = 2
"""While the API makes a page of one group of vouchers, one of the other is worked off."""
TOLD_ALIVE_EVERY_S = 2.0
"""Sooner than another replica takes the connection of one that shows nothing: who is not dead hears of it."""

CONCERNS_SOME = (InvalidRequest, RequestTimedOut, InvalidResponse)
"""What a listing fails with for one of its vouchers, while others may still be compared."""


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """How an audit judges.

    `overlap`: what changed so shortly before the end of what is mirrored is left to the pull. `max_loss`: loss guard.
    `repair`: mend what is found. `accept_loss`: mark codes as missing however many they are.
    """

    overlap: timedelta
    max_loss: float
    repair: bool
    accept_loss: bool = False


OnProgress = Callable[[AuditReport], None]


@dataclass(slots=True)
class AuditRun:
    """An audit that is under way. `has_rejected`: records of this connection could not be stored before.

    `slots`: for pages that the database is at work on, of all listings.
    """

    connection: Connection
    settings: AuditSettings
    audit: Audit
    on_progress: OnProgress
    report: AuditReport = field(default_factory=AuditReport)
    has_rejected: bool = False
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(COMPARED_AT_ONCE))
    clock: Callable[[], float] = time.monotonic
    _told_alive_s: float = float("-inf")

    async def do(self, work: Callable[[AsyncConnection], Awaitable[R]]) -> R:
        """What `work` returns, in a transaction."""
        return await in_transaction(self.connection.engine, work)

    def voucher(self, voucher_id: UUID) -> VoucherReport:
        """What is found in a voucher."""
        return self.report.vouchers.setdefault(voucher_id, VoucherReport(voucher_id))

    async def fail(self, scope: Scope, error: ApiError) -> None:
        """Leave a voucher out that cannot be compared, and say so; nothing of it is changed."""
        voucher = self.voucher(scope.voucher_id)
        voucher.error = error
        await self.forget_candidates([scope.voucher_id])
        text = str(error.redacted())
        await self.do(lambda tx: db.save_listed(tx, self.audit, [scope], {scope.voucher_id: voucher.counts}, text))

    async def keep_alive(self) -> None:
        """Say every few seconds that the audit goes on. Raises `AuditRunning` where it was taken over meanwhile.

        Before each page: a process that stood still for longer hears of it before it notes anything.
        """
        if self.clock() - self._told_alive_s >= TOLD_ALIVE_EVERY_S:
            self._told_alive_s = self.clock()
            await self.do(lambda tx: db.keep_alive(tx, self.audit))

    async def forget_candidates(self, voucher_ids: list[UUID]) -> None:
        """Forget what seemed to have drifted in vouchers."""
        while await self.do(lambda tx: candidates.clear_slice(tx, self.connection.name, voucher_ids)):
            pass


async def for_each(groups: Iterable[G], work: Callable[[G], Awaitable[None]]) -> None:
    """Do work for groups of vouchers, some at once, in their order; the first fault ends all, and is raised."""
    slots = asyncio.Semaphore(GROUPS_AT_ONCE)

    async def one(group: G) -> None:
        try:
            await work(group)
        finally:
            slots.release()

    try:
        async with asyncio.TaskGroup() as working:
            for group in groups:
                await slots.acquire()
                working.create_task(one(group))
    except ExceptionGroup as group_of_faults:
        raise group_of_faults.exceptions[0] from group_of_faults
