"""Sending one claimed batch, in one call, and what its outcome proves."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus

from sync.connection.connection import Connection
from sync.connection.tenure import now_s
from sync.core.api_errors import ApiError, InvalidRequest, NotFromApi, PayloadTooLarge, RequestTimedOut
from sync.core.errors import Stopped
from sync.core.retry import Backoff
from sync.core.tracing import span
from sync.mews import operations
from sync.mirror.read_back import read_codes
from sync.outbox.delete_guard import DeleteGuardRule
from sync.outbox.dispatch import Batch
from sync.outbox.outcomes import RETRY, Outcome
from sync.outbox.rules import VERDICTS, Operation, Verdict

MAX_BATCH = 1000
MIN_BATCH = 50
RESTS_S = 60.0
"""After a 401, 404 or 410 it is tried again so late, with one change, to find out whether somebody has mended it."""


@dataclass(frozen=True, slots=True)
class PushSettings:
    """How changes are sent.

    `lease`: how long a claim is good for; a call gets half of it at most. `read_after_write_delay`: how long the API
    may take to show its own writes. `retry`: how soon a change that was given back goes again.
    """

    lease: timedelta
    request_timeout_s: float
    read_after_write_delay: timedelta
    delete_guards: Sequence[DeleteGuardRule]
    retry: Backoff = RETRY

    @property
    def write_timeout_s(self) -> float:
        """Total seconds for one write."""
        return min(self.request_timeout_s, self.lease.total_seconds() / 2)


class BlockedAlone:
    """The last changes that were blocked alone; where the API answered others in between, it is for what is in them.

    `most` are remembered, since what is cancelled, or fails for being blocked, never goes through. Of one that was
    forgotten it is found out a round later that not everything is blocked.
    """

    def __init__(self, most: int = 1000) -> None:
        self._most = most
        self._answered: dict[int, int] = {}

    def note(self, row_id: int, answered: int) -> bool:
        """Take a change that was blocked alone, when the API had `answered` so many calls; whether it answered
        any since the last time.
        """
        before = self._answered.pop(row_id, answered)
        self._answered[row_id] = answered
        if len(self._answered) > self._most:
            del self._answered[next(iter(self._answered))]
        return before < answered

    def forget(self, row_ids: Iterable[int]) -> None:
        """Take note of changes that went through."""
        for row_id in row_ids:
            self._answered.pop(row_id, None)


class Sender:
    """Sends for one connection: how much at a time, and whether at all. `calls` counts what was sent."""

    def __init__(self, connection: Connection, settings: PushSettings) -> None:
        self.calls = 0
        self._batch_size = MAX_BATCH
        self._connection = connection
        self._settings = settings
        self._rests_until_s = 0.0
        self._is_turned_away = False
        self._answered = 0
        self._blocked_alone = BlockedAlone()

    @property
    def is_probing(self) -> bool:
        """Whether the next call only finds out whether the API does anything for this connection again."""
        return self._is_turned_away or self._connection.client.is_probing

    @property
    def batch_size(self) -> int:
        """How many changes may go in the next call; one in a probe, since each change keeps a note of each attempt.

        An outage of days has thousands of probes.
        """
        return 1 if self.is_probing else self._batch_size

    def may_send(self) -> bool:
        """Whether a call could do anything now."""
        is_resting = time.monotonic() < self._rests_until_s or not self._connection.tenure.is_trusted()
        return not is_resting and not self._connection.client.is_waiting and not self._connection.stop.is_set()

    def rest(self) -> None:
        """Send nothing for a while: whatever this connection sends is refused."""
        self._rests_until_s = time.monotonic() + RESTS_S

    async def send(self, batch: Batch, claimed_s: float) -> Outcome:
        """One call, within a place of the budget that the caller holds. `claimed_s`: when it claimed, by `now_s`."""
        settings = self._settings
        is_late = now_s() - claimed_s > settings.lease.total_seconds() - settings.write_timeout_s
        if is_late or not self._connection.tenure.is_trusted():
            # The call could outlive its claim, and its rows be looked up while it is still under way, or may have been
            # while this machine slept; or another process has the connection by now.
            return Outcome(Verdict.NOT_PROCESSED)
        self.calls += 1
        try:
            with span("push", operation=batch.attempt.lane.operation, rows=len(batch.rows)):
                outcome = await self._call(batch)
        except Stopped:
            return Outcome(Verdict.NOT_PROCESSED)
        except NotFromApi as error:
            return self._blocked(batch, error)
        except ApiError as error:
            self._answered += error.status is not None
            if isinstance(error, RequestTimedOut | PayloadTooLarge):
                self._ask_for_less()
            verdict = VERDICTS[type(error)]
            self._is_turned_away = verdict is Verdict.NOT_ALLOWED
            if self._is_turned_away:
                self.rest()
            return Outcome(verdict, error)
        self._is_turned_away = False
        self._answered += 1
        self._blocked_alone.forget(row.id for row in batch.rows)
        self._batch_size = min(MAX_BATCH, self._batch_size * 2)
        return outcome

    def _blocked(self, batch: Batch, error: NotFromApi) -> Outcome:
        """The outcome of a call that something on the way answered; what it told of one change alone is remembered."""
        if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            self._ask_for_less()
        outcome = Outcome(VERDICTS[type(error)], error)
        if len(batch.rows) > 1:
            return outcome
        (row,) = batch.rows
        return replace(outcome, is_singled_out=self._blocked_alone.note(row.id, self._answered))

    def _ask_for_less(self) -> None:
        self._batch_size = max(MIN_BATCH, self._batch_size // 2)

    async def learn(self, batch: Batch, outcome: Outcome) -> Outcome:
        """The outcome, and where a delete was refused alone, whether somebody else has deleted its code just before."""
        is_add = batch.attempt.lane.operation is Operation.ADD
        if outcome.verdict is not Verdict.REFUSED or is_add or len(batch.rows) > 1:
            return outcome
        (row,) = batch.rows
        if row.voucher_id is None or row.target_code_id is None:
            return outcome
        try:
            codes = await read_codes(self._connection, [row.voucher_id], [row.target_code_id])
        except InvalidRequest:
            return outcome  # the API shows nothing of this voucher any more, and has refused the delete all the same
        return replace(outcome, is_gone=any(not code.is_active for code in codes))

    async def _call(self, batch: Batch) -> Outcome:
        client, lane, timeout_s = self._connection.client, batch.attempt.lane, self._settings.write_timeout_s
        if lane.operation is Operation.ADD:
            page = await operations.add_voucher_codes(client, lane.enterprise_id, batch.rows, timeout_s=timeout_s)
            return Outcome(None, codes=page.records, rejected=page.rejected)
        code_ids = [row.target_code_id for row in batch.rows if row.target_code_id]
        await operations.delete_voucher_codes(client, lane.enterprise_id, code_ids, timeout_s=timeout_s)
        return Outcome(None)
