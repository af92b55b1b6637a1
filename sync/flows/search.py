"""Sending a refused batch in groups, until what is refused stands alone and everything else has gone through."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.db import outbox
from sync.db.engine import in_transaction
from sync.db.outbox import as_daemon
from sync.flows.claim import Batch
from sync.flows.conclude import Concluder, Outcome
from sync.flows.connection import Connection
from sync.flows.send import Sender
from sync.mews import operations
from sync.mews.budget import Priority
from sync.model.culprits import find_culprits
from sync.model.errors import InvalidRequest
from sync.model.outbox import Row, Verdict

MAX_REFUSED = 50
"""After so many changes that were refused alone, others get their turn, and the rest of the batch another one."""
MAX_FRUITLESS = 14
"""Calls that were all blocked; ten find one change among a thousand, and then its neighbours go through."""


class Search:
    """The search within one batch, whose rows stay claimed until they are settled; each group has its own attempt."""

    def __init__(
        self, connection: Connection, sender: Sender, concluder: Concluder, lease: timedelta, batch: Batch
    ) -> None:
        self._connection = connection
        self._sender = sender
        self._concluder = concluder
        self._lease = lease
        self._batch = batch
        self._left = {row.id: row for row in batch.rows}
        self._blocked: list[tuple[Row, Outcome]] = []
        self._calls = self._went_through = self._refused = 0

    async def run(self, refusal: Outcome) -> None:
        """Settle the rows of the batch, which was refused as a whole. Raises `DatabaseError`, `ApiError`, `Stopped`."""
        await self._concluder.note_refused(self._batch, refusal)
        groups = find_culprits(self._batch.rows, lambda row: row.id in self._left)
        outcome, rows = refusal, next(groups)
        with suppress(StopIteration):
            while not self._is_over(outcome):
                outcome = await self._try(rows)
                rows = groups.send(outcome.verdict not in DIVIDED)
        await self._conclude_blocked()
        await self._concluder.give_back(self._batch, list(self._left.values()), outcome)

    def _is_over(self, outcome: Outcome) -> bool:
        if outcome.verdict in {Verdict.NOT_PROCESSED, Verdict.NOT_ALLOWED}:
            return True
        is_fruitless = outcome.verdict is Verdict.BLOCKED and not self._went_through
        return self._refused >= MAX_REFUSED or (is_fruitless and self._calls >= MAX_FRUITLESS)

    async def _try(self, rows: Sequence[Row]) -> Outcome:
        """Send some rows, and settle them unless they are to be divided."""
        self._calls += 1
        group, outcome = await self._send(rows)
        if outcome.verdict in DIVIDED and len(rows) > 1:
            await self._take_back(group, outcome)
            return outcome
        for row in rows:
            del self._left[row.id]
        if outcome.verdict is Verdict.BLOCKED and group.rows:
            await self._take_back(group, outcome)
            self._blocked.append((rows[0], outcome))
            return outcome
        if group.rows:
            await self._concluder.conclude(group, outcome)
        self._went_through += len(group.rows) if outcome.verdict is None else 0
        if outcome.verdict is Verdict.REFUSED:
            self._refused += 1
            await self._fail_kin(rows[0], outcome)
        return outcome

    async def _send(self, rows: Sequence[Row]) -> tuple[Batch, Outcome]:
        """One call under an attempt of its own; without rows where they were taken for a dead one's meanwhile."""
        client, batch, attempt_id = self._connection.client, self._batch, uuid4()
        server_utc = await operations.server_now(client)
        async with client.budget.place(Priority.PUSH) as place:
            claimed_s = time.monotonic()

            async def claim(tx: AsyncConnection) -> set[int]:
                await outbox.begin_attempt(tx, batch.lane, attempt_id, lease=self._lease, server_utc=server_utc)
                row_ids = [row.id for row in rows]
                moved = await outbox.move(tx, batch.attempt_id, attempt_id, row_ids, lease=self._lease, is_sent=True)
                if not moved:
                    await outbox.end_attempt(tx, attempt_id)
                return moved

            moved = await in_transaction(self._connection.engine, claim, as_daemon)
            mine = [replace(row, attempts=row.attempts + 1) for row in rows if row.id in moved]
            group = replace(batch, attempt_id=attempt_id, rows=mine, server_utc=server_utc)
            place.is_used = bool(mine)
            return group, await self._sender.send(group, claimed_s) if mine else Outcome(None)

    async def _take_back(self, group: Batch, outcome: Outcome) -> None:
        """Keep a group's rows claimed by the batch, to be sent again."""
        await self._concluder.note_refused(group, outcome)
        row_ids = [row.id for row in group.rows]

        async def move(tx: AsyncConnection) -> None:
            await outbox.move(tx, group.attempt_id, self._batch.attempt_id, row_ids, lease=self._lease)
            await outbox.end_attempt(tx, group.attempt_id)

        await in_transaction(self._connection.engine, move, as_daemon)

    async def _fail_kin(self, row: Row, outcome: Outcome) -> None:
        """A change that is refused for its voucher alone proves that every other one of that voucher would be."""
        if not isinstance(outcome.error, InvalidRequest) or not outcome.error.names(operations.VOUCHER_ID):
            return
        kin = [other for other in self._left.values() if other.voucher_id == row.voucher_id]
        for other in kin:
            del self._left[other.id]
        await self._concluder.fail(self._batch, kin, outcome)

    async def _conclude_blocked(self) -> None:
        """What was blocked alone while its neighbours went through may be what is never let through."""
        for row, outcome in self._blocked:
            if self._went_through:
                await self._concluder.blocked(self._batch, row, outcome, are_others_through=True)
            else:
                self._left[row.id] = row
        if self._calls >= MAX_FRUITLESS and not self._went_through and self._blocked:
            self._sender.hold()


DIVIDED = frozenset({Verdict.REFUSED, Verdict.BLOCKED})
