"""Sending a refused batch in groups, until what is refused stands alone and everything else has gone through."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.core.api_errors import InvalidRequest
from sync.core.bisection import Bisection
from sync.mews import operations
from sync.mews.rate_limiter import Priority
from sync.outbox import claims
from sync.outbox.claim_watch import ClaimWatch
from sync.outbox.claims import as_daemon
from sync.outbox.completer import Completer
from sync.outbox.completion import Returning
from sync.outbox.dispatch import Batch
from sync.outbox.outcomes import (
    Outcome,
    Resolved,
    resolve,
    resolve_left,
    resolve_proved,
    stay_claimed,
)
from sync.outbox.rules import Row, Verdict
from sync.outbox.send import Sender
from sync.postgres.engine import in_transaction

MAX_REFUSED = 50
"""After so many changes that were refused alone, others get their turn, and the rest of the batch another one."""


class BatchBisection:
    """The groups of one refused batch, whose rows stay claimed until they are completed; each group is an attempt."""

    def __init__(
        self,
        connection: Connection,
        sender: Sender,
        completer: Completer,
        lease: timedelta,
        batch: Batch,
        *,
        watch: ClaimWatch,
    ) -> None:
        self._connection = connection
        self._sender = sender
        self._completer = completer
        self._waits = completer.waits
        self._watch = watch
        self._lease = lease
        self._batch = batch
        self._bisection = Bisection(batch.rows, is_refused=True)
        self._left = {row.id: row for row in batch.rows}
        self._resolved: list[Resolved] = []
        self._refused = 0

    async def run(self, refusal: Outcome) -> None:
        """Complete the rows of the batch, which was refused as a whole.

        Raises `DatabaseError`, `ApiError`, `Stopped`.
        """
        outcome = refusal
        await self._completer.apply(self._batch, resolve(self._batch.rows, refusal, self._waits))
        while (rows := self._bisection.group) and not self._is_over(outcome):
            outcome = await self._try(rows)
            self._bisection.tell(went_through=outcome.verdict is not Verdict.REFUSED)
        await self._finish(outcome)

    def _is_over(self, outcome: Outcome) -> bool:
        if outcome.verdict in {Verdict.NOT_PROCESSED, Verdict.NOT_ALLOWED}:
            return True
        return self._refused >= MAX_REFUSED

    async def _try(self, rows: Sequence[Row]) -> Outcome:
        """Send some rows, and complete them, unless it is left open yet what the answer means for each."""
        with self._watch.in_flight(attempt_id := uuid4()):
            return await self._try_as(attempt_id, rows)

    async def _try_as(self, attempt_id: UUID, rows: Sequence[Row]) -> Outcome:
        group, outcome = await self._claim_and_send(attempt_id, rows)
        is_split = outcome.verdict is Verdict.REFUSED and len(rows) > 1
        resolved: list[Resolved] = [(group.rows, stay_claimed(outcome))]
        if not is_split:
            self._take_verdict(rows, outcome)
            self._completer.report.note_fault(outcome)
            resolved = resolve(group.rows, outcome, self._waits)
        if group.rows:
            returning = Returning(self._batch.attempt_id, self._lease)
            await self._completer.apply(group, resolved, outcome, returning)
        return outcome

    async def _claim_and_send(self, attempt_id: UUID, rows: Sequence[Row]) -> tuple[Batch, Outcome]:
        """One call under an attempt of its own; without rows where their claim was taken for expired meanwhile."""
        client = self._connection.client
        server_utc = await claims.server_utc_for(self._connection, self._batch.lane.operation)
        async with client.rate_limiter.permit(Priority.PUSH) as permit:
            claimed_s = time.monotonic()
            claim = partial(self._claim, attempt_id=attempt_id, rows=rows, server_utc=server_utc)
            group = await in_transaction(self._connection.engine, claim, as_daemon)
            permit.is_used = bool(group.rows)
            outcome = await self._sender.send(group, claimed_s) if group.rows else Outcome(None)
        return group, await self._sender.learn(group, outcome)

    async def _claim(self, tx: AsyncConnection, attempt_id: UUID, rows: Sequence[Row], server_utc: datetime) -> Batch:
        batch = self._batch
        await claims.begin_attempt(tx, batch.lane, attempt_id, lease=self._lease, server_utc=server_utc)
        row_ids = [row.id for row in rows]
        moved = await claims.move(tx, batch.attempt_id, attempt_id, row_ids, lease=self._lease, is_sent=True)
        if not moved:
            await claims.end_attempt(tx, attempt_id)
        mine = [replace(row, attempts=row.attempts + 1) for row in rows if row.id in moved]
        return Batch(attempt_id, batch.lane, mine)

    def _take_verdict(self, rows: Sequence[Row], outcome: Outcome) -> None:
        """Take note of what is known of rows now, and of others by them."""
        for row in rows:
            del self._left[row.id]
        if outcome.verdict is Verdict.REFUSED:
            self._refused += 1
            self._fail_of_same_voucher(rows[0], outcome)

    def _fail_of_same_voucher(self, row: Row, outcome: Outcome) -> None:
        """A change that is refused for its voucher alone proves that every other one of that voucher would be."""
        if not isinstance(outcome.error, InvalidRequest) or not outcome.error.names(operations.VOUCHER_ID):
            return
        proved = [other for other in self._left.values() if other.voucher_id == row.voucher_id]
        for other in proved:
            del self._left[other.id]
        self._bisection.drop(proved)
        self._resolved += resolve_proved(proved, outcome, self._waits)

    async def _finish(self, outcome: Outcome) -> None:
        """Complete what is still claimed: what is proved to be refused, and what is sent another time."""
        self._completer.report.note_fault(outcome)
        left = resolve_left([*self._left.values()], outcome, self._waits)
        await self._completer.apply(self._batch, [*self._resolved, *left])
