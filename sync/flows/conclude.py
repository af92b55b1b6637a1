"""What the outcome of a write means for the rows that it carried."""

import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.db import mirror, outbox, outbox_refusals, rejected
from sync.db.engine import in_transaction
from sync.db.outbox import SET_ASIDE, Settlement, as_daemon
from sync.db.set_aside import Target, sort_out
from sync.db.tables import voucher_codes
from sync.flows.claim import Batch
from sync.flows.connection import Connection
from sync.flows.look import read_codes
from sync.flows.store import CODES, store_page
from sync.mews.pages import Page
from sync.model.errors import ApiError, StatementRefused, VoucherSyncError
from sync.model.outbox import (
    AMONG_OTHERS,
    CLOCK_SKEW,
    MAX_BLOCKS,
    SINGLED_OUT,
    UNLISTED,
    Operation,
    Row,
    Status,
    Verdict,
)
from sync.model.records import VoucherCode
from sync.model.retry import Backoff

R = TypeVar("R")

RETRY = Backoff(base_s=1.0, cap_s=60.0)
BESIDE_REFUSED = "not sent yet: the call that was to carry it was refused for other changes in it"
BLOCKED_ALONE = (
    "something between here and the API, as a proxy or firewall, lets all but this change through; have this one let "
    "through, then retry it"
)


Settle = Callable[[AsyncConnection, Collection[UUID]], Awaitable[None]]


@dataclass(slots=True)
class PushReport:
    """What was pushed: calls, and rows by what became of them. `refused`: nothing became of them, since something on
    the outbox's table refuses to have them changed. `errors` holds the last fault of each kind."""

    calls: int = 0
    done: int = 0
    failed: int = 0
    uncertain: int = 0
    given_back: int = 0
    held: int = 0
    refused: int = 0
    errors: dict[str, VoucherSyncError] = field(default_factory=dict)

    def count(self, status: Status, rows: int) -> None:
        """Count rows that were settled."""
        match status:
            case Status.DONE:
                self.done += rows
            case Status.FAILED:
                self.failed += rows
            case Status.UNCERTAIN:
                self.uncertain += rows
            case Status.PENDING:
                self.given_back += rows


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call: `verdict` is None if it did what it was to do, and then `page` has an add's new codes."""

    verdict: Verdict | None
    error: ApiError | None = None
    page: Page[VoucherCode] | None = None


class Concluder:
    """Settles the batches of one connection; a write without an answer is settled by a look `settle_after` later."""

    def __init__(self, connection: Connection, settle_after: timedelta, rng: random.Random) -> None:
        self.report = PushReport()
        self._connection = connection
        self._settle_after = settle_after
        self._rng = rng

    async def conclude(self, batch: Batch, outcome: Outcome) -> None:
        """Settle all rows of a batch by its outcome."""
        if outcome.error and outcome.verdict is not Verdict.REFUSED:
            self.note_error(outcome.error)
        if outcome.verdict is None:
            await self._done(batch, outcome.page)
        elif outcome.verdict is Verdict.REFUSED:
            await self._refused(batch, outcome.error)
        elif outcome.verdict is Verdict.BLOCKED and len(batch.rows) == 1:
            await self.blocked(batch, batch.rows[0], outcome, are_others_through=False)
        else:
            await self._settle(batch, batch.rows, self._settlement(batch, outcome.verdict, outcome.error))

    def note_error(self, error: VoucherSyncError) -> None:
        """Keep the last fault of each kind, without words that might quote a code's value."""
        kept = error.without_words() if isinstance(error, ApiError) else error
        self.report.errors[type(error).__name__] = kept

    async def give_back(self, batch: Batch, rows: Sequence[Row], outcome: Outcome) -> None:
        """Send rows of a batch again later, since the call that was to carry them had no effect."""
        again = self._settlement(batch, Verdict.NOT_PROCESSED, outcome.error)
        if outcome.verdict is Verdict.REFUSED:
            again = replace(again, error=BESIDE_REFUSED)
        elif outcome.error:
            self.note_error(outcome.error)
        await self._settle(batch, rows, again)

    async def fail(self, batch: Batch, rows: Sequence[Row], outcome: Outcome) -> None:
        """Fail rows for what was proved of them by another call."""
        await self._fail(batch, rows, self._settlement(batch, Verdict.REFUSED, outcome.error))

    async def blocked(self, batch: Batch, row: Row, outcome: Outcome, *, are_others_through: bool) -> None:
        """Settle a change that was blocked alone: it is sent again, unless it is this change that is never let through.

        That takes `MAX_BLOCKS` times, at one of which its neighbours went through: a proxy that blocks a call by chance
        must not fail a change for good, and one that blocks everything proves nothing of a single change.
        """
        again = self._settlement(replace(batch, rows=[row]), Verdict.BLOCKED, outcome.error)
        again = replace(again, outcome=SINGLED_OUT if are_others_through else Verdict.BLOCKED)
        times, was_singled_out = await self._do(lambda tx: outbox_refusals.count_blocks(tx, row.id))
        if times + 1 < MAX_BLOCKS or not (are_others_through or was_singled_out):
            await self._settle(batch, [row], again)
        else:
            refused = self._settlement(batch, Verdict.REFUSED, outcome.error)
            failed = replace(refused, error=f"{BLOCKED_ALONE}: {refused.error}")
            await self._fail(batch, [row], failed)

    async def note_refused(self, batch: Batch, outcome: Outcome) -> None:
        """Note a call that was refused as a whole, whose rows are sent again in smaller groups."""
        refused = replace(self._settlement(batch, Verdict.REFUSED, outcome.error), outcome=AMONG_OTHERS)
        await self._do(lambda tx: outbox_refusals.note_refused(tx, batch.attempt_id, refused))

    def _settlement(self, batch: Batch, verdict: Verdict, error: ApiError | None) -> Settlement:
        status, request_id = (error.status, error.request_id) if error else (None, None)
        words = error.api_message or error.summary if error else None
        match verdict:
            case Verdict.REFUSED:
                return Settlement(Status.FAILED, verdict, words, status, request_id)
            case Verdict.UNKNOWN:
                return Settlement(Status.UNCERTAIN, verdict, words, status, request_id, self._settle_after)
        # Of the row that was sent the fewest times: one that fails ever again must not keep its neighbours waiting.
        pause_s = RETRY.pause_s(min(row.attempts for row in batch.rows), self._rng)
        wait = timedelta(seconds=max(pause_s, (error.retry_after_s or 0.0) if error else 0.0))
        return Settlement(Status.PENDING, verdict, words, status, request_id, wait)

    async def _settle(self, batch: Batch, rows: Sequence[Row], settlement: Settlement) -> None:
        async def note(tx: AsyncConnection) -> None:
            await outbox.settle(tx, batch.attempt_id, [row.id for row in rows], settlement)
            await outbox.end_attempt(tx, batch.attempt_id)

        await self._do(note)
        self.report.count(settlement.status, len(rows))

    async def _do(self, work: Callable[[AsyncConnection], Awaitable[R]]) -> R:
        return await in_transaction(self._connection.engine, work, as_daemon)

    async def _done(self, batch: Batch, page: Page[VoucherCode] | None) -> None:
        """Write the effect into the mirror and settle the rows in one transaction: `done` means that it stands there.

        The answer to an add lists the new codes in any order. A row whose code it does not list is looked up later.
        """
        made: dict[tuple[UUID | None, str | None], UUID] = {}
        if page is not None:
            made = {(code.voucher_id, code.value): code.id for code in page.records}
        found = {row.id: row.target_code_id or made.get((row.voucher_id, row.value)) for row in batch.rows}
        code_ids = {row_id: code_id for row_id, code_id in found.items() if code_id is not None}
        missing = [row_id for row_id, code_id in found.items() if code_id is None]
        unlisted = Settlement(Status.UNCERTAIN, UNLISTED, "the answer does not list it", 200, wait=self._settle_after)
        counts: dict[Status, int] = {}

        async def settle(tx: AsyncConnection, aside: Collection[UUID]) -> None:
            """`aside`: codes whose rows of the mirror cannot be written."""
            done = Settlement(Status.DONE, "done", None, 200)
            shown = [row_id for row_id, code_id in code_ids.items() if code_id not in aside]
            hidden = [row_id for row_id, code_id in code_ids.items() if code_id in aside]
            settled = [
                (await outbox.settle(tx, batch.attempt_id, shown, done, code_ids)).ids,
                (await outbox.settle(tx, batch.attempt_id, hidden, replace(done, error=SET_ASIDE), code_ids)).ids,
            ]
            counts[Status.DONE] = sum(map(len, settled))
            counts[Status.UNCERTAIN] = len((await outbox.settle(tx, batch.attempt_id, missing, unlisted)).ids)
            await outbox.end_attempt(tx, batch.attempt_id)

        if page is not None:
            await self._store_made(page, settle)
        else:
            not_before = batch.server_utc.replace(microsecond=0) - CLOCK_SKEW
            await self._note_deleted(list(code_ids.values()), not_before, settle)
        for status, rows in counts.items():
            self.report.count(status, rows)

    async def _store_made(self, page: Page[VoucherCode], settle: Settle) -> None:
        async def note(tx: AsyncConnection, page: Page[VoucherCode], _written: int) -> None:
            await mirror.store_voucher_codes(tx, self._connection.name, page.records)
            await rejected.keep(tx, self._connection.name, page.rejected)
            await settle(tx, {UUID(one.record_id) for one in page.rejected if one.sqlstate and one.record_id})

        await store_page(self._connection, CODES, page, note, as_daemon)

    async def _note_deleted(self, code_ids: Sequence[UUID], not_before: datetime, settle: Settle) -> None:
        async def write(tx: AsyncConnection, records: Sequence[UUID]) -> int:
            return await mirror.note_deleted(tx, records, not_before)

        async def note(shown: Sequence[UUID], aside: Collection[UUID], tx: AsyncConnection) -> None:
            await write(tx, shown)
            await settle(tx, aside)

        try:
            await self._do(partial(note, code_ids, ()))
        except StatementRefused as refusal:
            target: Target[UUID] = Target(voucher_codes, write, id_of=lambda code_id: code_id)
            found = await sort_out(self._connection.engine, target, code_ids, refusal)
            # What the API says of the others, the next pull reads, and sets aside.
            await self._do(partial(note, found.stored, {code_id for code_id, _ in found.refused}))

    async def _refused(self, batch: Batch, error: ApiError | None) -> None:
        """Settle a change that was refused for itself, unless the refusal says that it stands already."""
        (row,) = batch.rows
        failed = self._settlement(batch, Verdict.REFUSED, error)
        if batch.lane.operation is Operation.ADD or not await self._is_deleted(row):
            await self._fail(batch, batch.rows, failed)
        elif row.voucher_code_id is not None:
            await self._done(batch, None)
        else:
            # Somebody else has deleted the code that had this value; it may be another one's by now.
            again = self._settlement(batch, Verdict.NOT_PROCESSED, error)
            await self._settle(batch, batch.rows, replace(again, outcome=Verdict.REFUSED))

    async def _fail(self, batch: Batch, rows: Sequence[Row], failed: Settlement) -> None:
        """Fail rows, but look once more for what an earlier attempt without an answer may have done.

        What an add has made shows late, and a refusal as its own double can be the first sign of it.
        """
        look = replace(failed, status=Status.UNCERTAIN, wait=self._settle_after)
        await self._settle(batch, [row for row in rows if row.unknown_since_utc], look)
        await self._settle(batch, [row for row in rows if not row.unknown_since_utc], failed)

    async def _is_deleted(self, row: Row) -> bool:
        """Whether somebody else has deleted the code just before."""
        if row.voucher_id is None or row.target_code_id is None:
            return False
        codes = await read_codes(self._connection, [row.voucher_id], [row.target_code_id])
        return any(not code.is_active for code in codes)
