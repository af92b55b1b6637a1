"""Completing a batch by its outcome; a refused one is sent in groups until what is refused stands alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.connection import Connection
from sync.connection.tenure import now_s
from sync.core.bisection import Bisection
from sync.mews.rate_limiter import Priority
from sync.outbox import claims
from sync.outbox.claim_watch import ClaimWatch
from sync.outbox.claims import Attempt, as_daemon
from sync.outbox.completer import Completer
from sync.outbox.dispatch import Batch
from sync.outbox.outcomes import Outcome, Resolution
from sync.outbox.rules import Row
from sync.outbox.send import Sender
from sync.postgres.engine import in_transaction


class Bisector:
    """Completes batches of one connection. Rows of a refused one stay claimed meanwhile; each group is an attempt."""

    def __init__(self, connection: Connection, sender: Sender, completer: Completer, watch: ClaimWatch) -> None:
        self._connection = connection
        self._sender = sender
        self._completer = completer
        self._watch = watch

    async def complete(self, batch: Batch, outcome: Outcome) -> None:
        """Complete the rows of a batch that was sent; where it was refused as a whole, after sending them in groups.

        Raises `DatabaseError`, `ApiError`, `Stopped`.
        """
        bisection = Bisection(batch.rows)
        resolution = Resolution(bisection, self._completer.waits)
        resolved = resolution.take(batch.rows, outcome)
        await self._completer.apply(batch, resolved, outcome)
        if not resolution.group:
            return
        while rows := resolution.group:
            with self._watch.in_flight(attempt_id := uuid4()):
                group, outcome = await self._claim_and_send(batch, attempt_id, rows)
                resolved = resolution.take(group.rows, outcome)
                if group.rows:
                    await self._completer.apply(group, resolved, outcome, returning=batch.attempt)
        await self._completer.apply(batch, resolution.left)

    async def _claim_and_send(self, batch: Batch, attempt_id: UUID, rows: Sequence[Row]) -> tuple[Batch, Outcome]:
        """One call under an attempt of its own; without rows where their claim was taken for expired meanwhile."""
        client = self._connection.client
        server_utc = await claims.server_utc_for(self._connection, batch.attempt.lane.operation)
        attempt = replace(batch.attempt, id=attempt_id, server_utc=server_utc)
        async with client.rate_limiter.permit(Priority.PUSH) as permit:
            claimed_s = now_s()
            claim = partial(_claim, attempt=attempt, rows=rows, from_id=batch.attempt.id)
            group = await in_transaction(self._connection.engine, claim, as_daemon)
            permit.is_used = bool(group.rows)
            outcome = await self._sender.send(group, claimed_s) if group.rows else Outcome(None)
        return group, await self._sender.learn(group, outcome)


async def _claim(tx: AsyncConnection, attempt: Attempt, rows: Sequence[Row], from_id: UUID) -> Batch:
    """Claim rows of the attempt `from_id` for another one."""
    await claims.begin_attempt(tx, attempt)
    moved = await claims.move(tx, from_id, attempt, [row.id for row in rows], is_sent=True)
    if not moved:
        await claims.end_attempt(tx, attempt.id)
    return Batch(attempt, [replace(row, attempts=row.attempts + 1) for row in rows if row.id in moved])
