"""Completing the rows of a call: what was resolved of them is written with the call's effect, and counted."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import partial
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.core.api_errors import ApiError
from sync.core.errors import VoucherSyncError
from sync.mews.pages import Page
from sync.mews.records import VoucherCode
from sync.mirror import rejected, upsert
from sync.mirror.freshness import MirrorFreshness
from sync.mirror.store import CODES, DELETED_CODES, DeletedCode, R, store_page
from sync.outbox.claims import Attempt, as_daemon
from sync.outbox.completion import Completed, complete
from sync.outbox.dispatch import Batch
from sync.outbox.each_row import at_once
from sync.outbox.outcomes import Outcome, Resolved, Waits
from sync.outbox.rules import Operation, Status, Verdict

LOCKED_WAITS_S = (0.02, 0.04, 0.08, 0.16, 0.32)
"""Pauses before what somebody has locked is tried again. A claim that passes over a row locks it to its commit, if the
row was pending when the claim began; what a user locks for longer is looked up once the claim's time is over."""


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

    def count(self, completed: Completed) -> None:
        """Count rows by what the database says that they became."""
        counts = completed.counts
        self.done += counts[Status.DONE]
        self.failed += counts[Status.FAILED]
        self.uncertain += counts[Status.UNCERTAIN]
        self.given_back += counts[Status.PENDING]

    def add(self, later: "PushReport") -> None:
        """Count what was pushed later, too."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.errors |= later.errors

    def note_error(self, error: VoucherSyncError) -> None:
        """Keep the last fault of each kind, without words that might quote a code's value."""
        kept = error.redacted() if isinstance(error, ApiError) else error
        self.errors[type(error).__name__] = kept

    def note_fault(self, outcome: Outcome) -> None:
        """Keep what kept a call from its effect, unless that was the changes in it."""
        if outcome.error and outcome.verdict is not Verdict.REFUSED:
            self.note_error(outcome.error)


_COUNTS = [count.name for count in fields(PushReport) if count.name != "errors"]


class Completer:
    """Completes rows of one connection, which wait as long as `waits` say, and counts what that changed in `report`.

    `ended`: how many rows became done or failed, since it was made. `freshness`: as `Pusher` has it.
    """

    def __init__(self, connection: Connection, waits: Waits, freshness: Callable[[], MirrorFreshness]) -> None:
        self.report = PushReport()
        self.ended = 0
        self._freshness = freshness
        self._asked_at: datetime | None = None
        self.waits = waits
        self._connection = connection

    @property
    def waits_for_discovery(self) -> bool:
        """Whether rows were refused that wait for a discovery, and none has begun since."""
        discovered_as_of = self._freshness().discovered_as_of
        return self._asked_at is not None and (discovered_as_of is None or discovered_as_of < self._asked_at)

    async def apply(
        self,
        batch: Batch,
        resolved: Sequence[Resolved],
        outcome: Outcome | None = None,
        returning: Attempt | None = None,
    ) -> None:
        """Write what was resolved of a batch's rows, and again what somebody had locked. Raises `DatabaseError`.

        In the same transaction stands what the call, of which this is the `outcome`, has done to codes: `done` means
        that it stands in the mirror. Rows that stay claimed go back to `returning`.
        """
        if outcome:
            self.report.note_fault(outcome)
        left = await self._write(batch, resolved, outcome, returning)
        for wait_s in LOCKED_WAITS_S:
            if not left:
                return
            await asyncio.sleep(wait_s)
            left = await self._write(batch, _of_rows(resolved, left), outcome, returning)

    async def _write(
        self, batch: Batch, resolved: Sequence[Resolved], outcome: Outcome | None, returning: Attempt | None
    ) -> set[int]:
        """Write what is free, in one transaction; which rows are not."""
        as_of = self._freshness().discovered_as_of
        write = partial(
            complete, attempt_id=batch.attempt.id, resolved=resolved, returning=returning, discovered_as_of=as_of
        )

        async def store_made(tx: AsyncConnection, page: Page[VoucherCode], _written: int) -> Completed:
            await upsert.store_voucher_codes(tx, self._connection.name, page.records)
            await rejected.keep(tx, self._connection.name, page.rejected)
            return await write(tx, hidden=_refused(page))

        async def store_deleted(tx: AsyncConnection, page: Page[DeletedCode], _written: int) -> Completed:
            # What the API says of those that the mirror refuses, the next pull reads, and sets aside.
            await DELETED_CODES.store(tx, self._connection.name, page.records)
            return await write(tx, hidden=_refused(page))

        run = partial(at_once, opened=as_daemon)
        if batch.attempt.lane.operation is Operation.DELETE:
            deleted = Page(_deleted(resolved), [], None)
            completed = await store_page(self._connection, DELETED_CODES, deleted, store_deleted, run)
        else:
            made = Page([*outcome.codes] if outcome else [], [*outcome.rejected] if outcome else [], None)
            completed = await store_page(self._connection, CODES, made, store_made, run)
        self.report.count(completed)
        self.ended += len(completed.ended)
        self._asked_at = completed.asked_at or self._asked_at
        return completed.left


def _of_rows(resolved: Sequence[Resolved], row_ids: Collection[int]) -> list[Resolved]:
    return [([row for row in rows if row.id in row_ids], completion) for rows, completion in resolved]


def _deleted(resolved: Sequence[Resolved]) -> list[DeletedCode]:
    code_ids = dict.fromkeys(code_id for _, completion in resolved for code_id in completion.code_ids.values())
    return [DeletedCode(code_id) for code_id in code_ids]


def _refused(page: Page[R]) -> set[UUID]:
    """The ids of what the database refuses."""
    return {UUID(one.record_id) for one in page.rejected if one.sqlstate and one.record_id}
