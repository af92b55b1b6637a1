"""What the steps of one audit share."""

from collections.abc import Awaitable, Callable
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
from sync.core.errors import ApiError, InvalidRequest, InvalidResponse, RequestTimedOut
from sync.postgres.engine import in_transaction

R = TypeVar("R")

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
    """An audit that is under way. `has_refused`: codes of this connection were refused by the database before."""

    connection: Connection
    settings: AuditSettings
    audit: Audit
    on_progress: OnProgress
    report: AuditReport = field(default_factory=AuditReport)
    has_refused: bool = False

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

    async def forget_seen(self) -> None:
        """Forget which codes were listed."""
        while await self.do(lambda tx: candidates.clear_slice(tx, self.connection.name)):
            pass

    async def forget_candidates(self, voucher_ids: list[UUID]) -> None:
        """Forget what seemed to have drifted in vouchers."""
        while await self.do(lambda tx: candidates.clear_slice(tx, self.connection.name, voucher_ids)):
            pass
