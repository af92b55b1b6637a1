"""The push: claims what is due, and sends it; `sync.flows.conclude` settles it by what the answer proves.

A claim is made while a place of the budget is held, so that what is claimed is sent at once. The answer is not waited
for before the next claim: several calls are in flight, and a slow one keeps back only its own rows.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from uuid import uuid4

from sync.db import outbox, outbox_upkeep
from sync.db.outbox import Lane, as_daemon
from sync.db.outbox_upkeep import BrakeRule, Waiting
from sync.flows.claim import Batch, Knowledge, claim_due
from sync.flows.conclude import Concluder, Outcome, PushReport
from sync.flows.connection import Connection
from sync.mews import operations
from sync.mews.budget import Priority
from sync.model.culprits import find_culprits
from sync.model.errors import ApiError, Stopped, TooHeavy, TooLarge, VoucherSyncError
from sync.model.outbox import VERDICTS, Operation, Row, Verdict

CALLS_IN_FLIGHT = 8
CLAIMING = 3
"""Claims made at once while lanes are full: while one reads its rows, another waits for the next place."""
MAX_BATCH = 1000
MIN_BATCH = 50
NOT_ALLOWED_FOR_S = 60.0
"""After a 401 or 404 it is tried again, with one batch, to find out whether somebody has mended it."""


@dataclass(frozen=True, slots=True)
class PushSettings:
    """`lease`: how long a claim is good for; a call gets half of it at most. `settle_after`: until a look settles."""

    lease: timedelta
    request_timeout_s: float
    settle_after: timedelta
    brake: BrakeRule

    @property
    def write_timeout_s(self) -> float:
        """Total seconds for one write."""
        return min(self.request_timeout_s, self.lease.total_seconds() / 2)


class Pusher:
    """Pushes the outbox of one connection. `moved` is set whenever rows were settled: others may be due then."""

    def __init__(self, connection: Connection, settings: PushSettings, knowledge: Knowledge, rng: Random) -> None:
        self.waiting = Waiting(discovery=False, pull=False)
        self.moved = asyncio.Event()
        self._connection = connection
        self._settings = settings
        self._knowledge = knowledge
        self._concluder = Concluder(connection, settings.settle_after, rng)
        self._slots = asyncio.Semaphore(CALLS_IN_FLIGHT)
        self._batch_size = MAX_BATCH
        self._not_allowed_until_s = 0.0

    def take_report(self) -> PushReport:
        """What was pushed since the last time that this was asked."""
        report, self._concluder.report = self._concluder.report, PushReport()
        return report

    async def push(self) -> PushReport:
        """Send everything that is due, and wait for the answers. Raises `DatabaseError`, `ApiError` and `Stopped`."""
        while True:
            self.moved.clear()
            failure: VoucherSyncError | None = None
            async with asyncio.TaskGroup() as calls:
                try:
                    await self.start_due(calls)
                except VoucherSyncError as error:  # what is in flight is settled all the same
                    failure = error
            if failure is not None:
                raise failure
            if not self.moved.is_set() or not self._may_send():
                return self.take_report()

    async def start_due(self, calls: asyncio.TaskGroup) -> None:
        """Claim what is due, one batch of each lane in turn, and send it in tasks of `calls`."""
        knowledge = self._knowledge
        async with as_daemon(self._connection.engine) as tx:
            await outbox_upkeep.adopt(tx, self._connection.name)
            self.waiting = await outbox_upkeep.fail_unknown(
                tx,
                self._connection.name,
                discovered_as_of=knowledge.discovered_as_of,
                caught_up_as_of=knowledge.caught_up_as_of,
            )
            lanes = await outbox.due_lanes(tx, self._connection.name)
        full = [lane for lane in lanes if await self._start_batch(lane, calls)]
        if full:
            with self._connection.client.budget.pressed():
                await asyncio.gather(*(self._drain(full, calls) for _ in range(CLAIMING)))

    async def _drain(self, lanes: list[Lane], calls: asyncio.TaskGroup) -> None:
        """Claim and send, one batch of each lane in turn, until no lane has a full one left."""
        while lanes:
            for lane in tuple(lanes):
                if not await self._start_batch(lane, calls) and lane in lanes:
                    lanes.remove(lane)

    def _may_send(self) -> bool:
        is_allowed = time.monotonic() >= self._not_allowed_until_s
        return is_allowed and not self._connection.client.is_waiting and not self._connection.stop.is_set()

    async def _start_batch(self, lane: Lane, calls: asyncio.TaskGroup) -> bool:
        """Claim one batch and send it in a task; whether it was a full one, with more to come."""
        if not self._may_send():
            return False
        settings, client, limit = self._settings, self._connection.client, self._batch_size
        server_utc = await operations.server_now(client)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._slots)
            place = await stack.enter_async_context(client.budget.place(Priority.PUSH))
            place.is_used = False
            claimed_s = time.monotonic()
            async with as_daemon(self._connection.engine) as tx:
                batch = await claim_due(
                    tx,
                    lane,
                    limit=limit,
                    lease=settings.lease,
                    server_utc=server_utc,
                    knowledge=self._knowledge,
                    rule=settings.brake,
                )
            self._concluder.report.held += batch.held
            self._concluder.report.done += batch.decided
            self.waiting = replace(self.waiting, pull=self.waiting.pull or batch.waiting > 0)
            if batch.rows:
                place.is_used = True
                calls.create_task(self._carry_out(batch, claimed_s, stack.pop_all()))
        return len(batch.rows) + batch.decided + batch.waiting >= limit

    async def _carry_out(self, batch: Batch, claimed_s: float, place: AsyncExitStack) -> None:
        """Send a claimed batch and settle it. What cannot be settled now, as without a database, is by a look later."""
        try:
            async with place:
                outcome = await self._send(batch, claimed_s)
            if outcome.verdict is Verdict.REFUSED and len(batch.rows) > 1:
                await self._send_apart(batch, outcome)
            else:
                await self._concluder.conclude(batch, outcome)
        except VoucherSyncError as error:
            self._concluder.report.errors[type(error).__name__] = error
        self.moved.set()

    async def _send(self, batch: Batch, claimed_s: float) -> Outcome:
        """One call, within a place of the budget, and what its outcome proves."""
        settings = self._settings
        if time.monotonic() - claimed_s > settings.lease.total_seconds() - settings.write_timeout_s:
            # The call could outlive its claim, and its rows be looked up while it is still under way.
            return Outcome(Verdict.NOT_PROCESSED)
        self._concluder.report.calls += 1
        try:
            outcome = await self._call(batch)
        except Stopped:
            return Outcome(Verdict.NOT_PROCESSED)
        except ApiError as error:
            if isinstance(error, TooHeavy | TooLarge):
                self._batch_size = max(MIN_BATCH, self._batch_size // 2)
            verdict = VERDICTS[type(error)]
            if verdict is Verdict.NOT_ALLOWED:
                self._not_allowed_until_s = time.monotonic() + NOT_ALLOWED_FOR_S
            return Outcome(verdict, error)
        self._batch_size = min(MAX_BATCH, self._batch_size * 2)
        return outcome

    async def _call(self, batch: Batch) -> Outcome:
        client, lane, timeout_s = self._connection.client, batch.lane, self._settings.write_timeout_s
        if lane.operation is Operation.ADD:
            page = await operations.add_voucher_codes(client, lane.enterprise_id, batch.rows, timeout_s=timeout_s)
            return Outcome(None, page=page)
        code_ids = [row.target_code_id for row in batch.rows if row.target_code_id]
        await operations.delete_voucher_codes(client, lane.enterprise_id, code_ids, timeout_s=timeout_s)
        return Outcome(None)

    async def _send_apart(self, batch: Batch, refusal: Outcome) -> None:
        """Send a refused batch in groups, until what is refused stands alone and everything else has gone through."""
        await self._concluder.note_refused(batch, refusal)
        search = find_culprits(batch.rows)
        left = {row.id: row for row in batch.rows}
        rows = next(search)
        with suppress(StopIteration):
            while True:
                outcome = await self._send_group(batch, rows)
                if outcome.verdict in {Verdict.NOT_PROCESSED, Verdict.NOT_ALLOWED}:
                    await self._concluder.give_back(batch, list(left.values()), outcome)
                    return
                is_refused = outcome.verdict is Verdict.REFUSED
                if not is_refused or len(rows) == 1:
                    for row in rows:
                        del left[row.id]
                rows = search.send(not is_refused)

    async def _send_group(self, batch: Batch, rows: Sequence[Row]) -> Outcome:
        """Send some rows of a batch under an attempt of their own, and settle them unless they are to be divided."""
        client, lease, attempt_id = self._connection.client, self._settings.lease, uuid4()
        server_utc = await operations.server_now(client)
        async with client.budget.place(Priority.PUSH) as place:
            claimed_s = time.monotonic()
            async with as_daemon(self._connection.engine) as tx:
                await outbox.begin_attempt(tx, batch.lane, attempt_id, lease=lease, server_utc=server_utc)
                moved = await outbox.move(tx, batch.attempt_id, attempt_id, [row.id for row in rows], lease=lease)
                await outbox.count_attempt(tx, list(moved))
            mine = [row for row in rows if row.id in moved]
            group = replace(batch, attempt_id=attempt_id, rows=mine, server_utc=server_utc)
            if not mine:  # this batch took so long that its rows were taken for a dead one's
                place.is_used = False
                return Outcome(None)
            outcome = await self._send(group, claimed_s)
        if outcome.verdict is Verdict.REFUSED and len(rows) > 1:
            await self._concluder.note_refused(group, outcome)
            async with as_daemon(self._connection.engine) as tx:
                await outbox.move(tx, attempt_id, batch.attempt_id, [row.id for row in mine], lease=lease)
                await outbox.end_attempt(tx, attempt_id)
        else:
            await self._concluder.conclude(group, outcome)
        return outcome
