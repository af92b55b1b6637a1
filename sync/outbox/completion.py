"""Completing rows of the outbox: what was resolved of them is written, and what that changed is told.

Only who knows the attempt that has claimed a row can complete it, and only as long as no other has claimed it since.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Boolean, Integer, Interval, Text, bindparam, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.set_aside import SET_ASIDE_FOR
from sync.outbox import moved
from sync.outbox.claims import Attempt, end_attempt, move
from sync.outbox.each_row import KEPT, Written, write_each
from sync.outbox.followers import move_followers
from sync.outbox.outcomes import SET_ASIDE, Completion, Resolved
from sync.outbox.rules import Status, Uncertainty
from sync.outbox.tables import outbox, outbox_attempts


@dataclass(slots=True)
class Completed:
    """What was written: how many rows became what, which ended, and why which take note of nothing. `left`: those that
    somebody has locked, or that are another attempt's by now. `asked_at`: when rows began to wait for a discovery."""

    counts: Counter[Status] = field(default_factory=Counter)
    refused: dict[int, str] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    asked_at: datetime | None = None

    def add(self, later: "Completed") -> None:
        """Take in what was written later, too."""
        self.counts.update(later.counts)
        self.refused |= later.refused
        self.ended |= later.ended
        self.left |= later.left
        self.asked_at = later.asked_at or self.asked_at


async def complete(
    tx: AsyncConnection,
    attempt_id: UUID,
    resolved: Iterable[Resolved],
    *,
    hidden: Collection[UUID] = (),
    returning: Attempt | None = None,
    discovered_as_of: datetime | None = None,
) -> Completed:
    """Write what was resolved of rows of an attempt that are still its own, and that nobody holds; what that changed.

    The others are looked up later. What is refused is not sent again: it becomes uncertain, and says why, or pending
    where it was not sent. Rows that stand in `hidden` codes say that the mirror cannot show them. Rows that stay
    claimed go back to `returning`. The attempt ends with the last of its rows, and what waited for one that ended goes.
    What may be made by another connection does not fail; `discovered_as_of`: when the last discovery of this one began.
    """
    completed = Completed()
    for rows, completion in resolved:
        row_ids = [row.id for row in rows]
        if completion.status is Status.SENDING:
            completed.left |= await _keep_claimed(tx, attempt_id, row_ids, completion, returning)
            continue
        aside = {row_id for row_id in row_ids if completion.code_ids.get(row_id) in hidden}
        shown = [row_id for row_id in row_ids if row_id not in aside]
        if completion.status is Status.FAILED:
            elsewhere = await moved.elsewhere(tx, shown, completion, discovered_as_of)
            for wait, waiting in elsewhere.of_wait.items():
                again = replace(completion, status=Status.PENDING, wait=wait, blocks=None)
                completed.add(await _complete_all(tx, attempt_id, waiting, again))
            completed.add(Completed(asked_at=elsewhere.asked_at))
            put_off = elsewhere.row_ids
            shown = [row_id for row_id in shown if row_id not in put_off]
        completed.add(await _complete_all(tx, attempt_id, shown, completion))
        completed.add(await _complete_all(tx, attempt_id, sorted(aside), replace(completion, error=SET_ASIDE)))
    await end_attempt(tx, attempt_id)
    if completed.ended:
        await move_followers(tx, completed.ended)
    return completed


async def _keep_claimed(
    tx: AsyncConnection,
    attempt_id: UUID,
    row_ids: Sequence[int],
    completion: Completion,
    returning: Attempt | None,
) -> set[int]:
    """The rows that should have gone back, and did not."""
    await _note_refused(tx, attempt_id, completion)
    if returning is None:
        return set()
    return {*row_ids} - await move(tx, attempt_id, returning, row_ids)


async def _complete_all(
    tx: AsyncConnection, attempt_id: UUID, row_ids: Sequence[int], completion: Completion
) -> Completed:
    written = await _complete_each(tx, attempt_id, row_ids, completion)
    completed = Completed(Counter({completion.status: len(written.ids)}))
    completed.left = {*row_ids} - written.ids - written.refused.keys()
    if completion.status in {Status.DONE, Status.FAILED}:
        completed.ended = written.ids
    for row_id, reason in written.refused.items():
        status, because = Status.PENDING, None
        if completion.was_sent:
            # What the API said was done is not sent again, whatever keeps that from being written.
            is_unlisted = completion.outcome == Uncertainty.UNLISTED
            status, because = Status.UNCERTAIN, Uncertainty.UNLISTED if is_unlisted else Uncertainty.UNWRITTEN
        rests = Completion(
            status, completion.outcome, reason, wait=SET_ASIDE_FOR, was_sent=False, uncertain_because=because
        )
        rested = await _complete_each(tx, attempt_id, [row_id], rests)
        completed.counts[status] += len(rested.ids)
        completed.refused.update(rested.refused)
    return completed


async def _complete_each(
    tx: AsyncConnection, attempt_id: UUID, row_ids: Sequence[int], completion: Completion
) -> Written:
    kept = set[int]()

    async def write(row_ids: Sequence[int]) -> Iterable[int]:
        rows = (await tx.execute(_COMPLETE, _parameters(attempt_id, row_ids, completion))).all()
        kept.update(row.id for row in rows if not row.is_completed)
        return [row.id for row in rows if row.is_completed]

    written = await write_each(tx, row_ids, write)
    return Written(written.ids, dict.fromkeys(kept, KEPT) | written.refused)


def _parameters(attempt_id: UUID, row_ids: Sequence[int], completion: Completion) -> dict[str, Any]:
    blocks = completion.blocks
    return {
        "ids": list(row_ids),
        "code_ids": [completion.code_ids.get(row_id) for row_id in row_ids],
        "attempt": attempt_id,
        "new_status": completion.status.value,
        "because": completion.uncertain_because,
        "blocked_alone": blocks and blocks.alone,
        "singled_out": blocks and blocks.singled_out,
        "outcome": completion.outcome,
        "error": completion.error,
        "http_status": completion.http_status,
        "request": completion.request_id,
        "wait": completion.wait,
        "was_sent": completion.was_sent,
    }


async def _note_refused(tx: AsyncConnection, attempt_id: UUID, completion: Completion) -> None:
    """Note an attempt that was refused as a whole, whose rows stay claimed; but for rows that somebody holds."""
    row = (attempt_id, completion.outcome, completion.http_status, completion.error, completion.request_id)
    of_attempt = (outbox.c.attempt_id == attempt_id, outbox.c.status == Status.SENDING)
    rows = select(
        outbox.c.id, outbox.c.sent_at, *(literal(value, type_) for value, type_ in zip(row, _NOTED, strict=True))
    )
    # The foreign key would wait for a row's holder, and keep the whole batch from being divided.
    free = rows.where(*of_attempt).with_for_update(read=True, key_share=True, skip_locked=True)
    names = ["outbox_id", "sent_at", "attempt_id", "outcome", "http_status", "message", "request_id"]
    await tx.execute(insert(outbox_attempts).from_select(names, free, include_defaults=False).on_conflict_do_nothing())


_NOTED = (UUID_TYPE, Text, Integer, Text, Text)

# A row that goes back to be sent keeps its attempt's id, which then completes nothing.
_COMPLETE = text("""
WITH free AS (
  SELECT row.id FROM mews.voucher_code_outbox AS row
  WHERE row.id = ANY (:ids) AND row.attempt_id = :attempt AND row.status IN ('sending', 'uncertain')
  FOR NO KEY UPDATE SKIP LOCKED
), completed AS (
  UPDATE mews.voucher_code_outbox AS row
  SET status = :new_status, voucher_code_id = coalesce(given.code_id, row.voucher_code_id), last_error = :error,
      request_id = coalesce(:request, row.request_id), next_attempt_at = now() + :wait,
      unknown_since_utc = CASE WHEN :new_status = 'uncertain' THEN coalesce(row.unknown_since_utc, (
        SELECT server_utc FROM sync.attempts WHERE id = :attempt), row.first_sent_utc)
        ELSE row.unknown_since_utc END,
      uncertain_because = :because, blocked_alone = coalesce(:blocked_alone, row.blocked_alone),
      singled_out = coalesce(:singled_out, row.singled_out),
      finished_at = CASE WHEN :new_status IN ('done', 'failed') THEN now() END
  FROM unnest(CAST(:ids AS bigint[]), CAST(:code_ids AS uuid[])) AS given(id, code_id)
  WHERE row.id = given.id AND row.attempt_id = :attempt AND row.status IN ('sending', 'uncertain')
    AND row.id IN (SELECT id FROM free)
  RETURNING row.id, row.sent_at, row.status
), noted AS (
INSERT INTO mews.voucher_code_outbox_attempts
  (outbox_id, attempt_id, sent_at, outcome, http_status, message, request_id)
SELECT completed.id, :attempt, completed.sent_at, :outcome, :http_status, :error, :request FROM completed
WHERE :was_sent
ON CONFLICT (outbox_id, attempt_id) DO UPDATE SET outcome = excluded.outcome, settled_at = excluded.settled_at
)
SELECT free.id, free.id IN (SELECT completed.id FROM completed WHERE completed.status = :new_status) AS is_completed
FROM free
""").bindparams(
    bindparam("ids", type_=ARRAY(BigInteger)),
    bindparam("code_ids", type_=ARRAY(UUID_TYPE)),
    bindparam("attempt", type_=UUID_TYPE),
    bindparam("new_status", type_=Text),
    bindparam("because", type_=Text),
    bindparam("blocked_alone", type_=Integer),
    bindparam("singled_out", type_=Integer),
    bindparam("outcome", type_=Text),
    bindparam("error", type_=Text),
    bindparam("http_status", type_=Integer),
    bindparam("request", type_=Text),
    bindparam("wait", type_=Interval),
    bindparam("was_sent", type_=Boolean),
)
