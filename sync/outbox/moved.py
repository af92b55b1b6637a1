"""Rows whose voucher another connection mirrors by now: they go on with that one.

They were queued by a transaction that stayed open while the voucher was taken over, which could not see them, or were
being claimed or sent in that moment. A change goes on where its voucher is, whoever of the two is at work: only there
is it known which codes there are, and only there may they be written. What is not known of it goes along as it is, and
is looked up there before anything is sent again.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus

from sqlalchemy import Boolean, Interval, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import IS_AT_WORK
from sync.mirror.take_over import MOVE_ATTEMPTS
from sync.outbox import outcomes
from sync.outbox.each_row import IDS, KEPT, REFUSES, Written, write_each, write_rows
from sync.outbox.outcomes import Completion
from sync.outbox.rules import Verdict
from sync.postgres.listen import CHANNEL
from sync.postgres.metadata import TIMESTAMP

ASK_AGAIN = timedelta(seconds=2)
"""A discovery that is asked for takes about as long."""
TRY_AGAIN = timedelta(minutes=1)
HIDDEN_FOR = timedelta(hours=1)
"""Within this each connection has had some discoveries, whose takings-over take a row's voucher with it."""
HIDDEN = "the API does not show its voucher at present, and so not whether there is such a code: retry it once it does"
"""`last_error` of a delete by value that nobody could decide on."""


async def hand_on(tx: AsyncConnection, row_ids: Sequence[int]) -> Written:
    """Give pending rows, which this transaction has locked, to whose their vouchers are, and wake who pushes."""
    if not row_ids:
        return Written()
    handed = await write_each(tx, row_ids, partial(write_rows, tx, ASSIGN, refuses=REFUSES, kept=KEPT))
    if handed.ids:
        await tx.execute(_TELL, {"channel": CHANNEL})
    return handed


async def hand_on_uncertain(tx: AsyncConnection, row_ids: Sequence[int]) -> set[int]:
    """The same of uncertain rows, with what is noted of their attempts; those that went.

    What one connection was refused the other may be granted, so a refusal does not go along.
    """
    found = (await tx.execute(_LOCK_UNCERTAIN, {"ids": list(row_ids)})).all()
    if not found:
        return set()
    handed = await write_each(tx, [row.id for row in found], partial(write_rows, tx, _HAND_ON_UNCERTAIN))
    for voucher_id, connection in {(row.voucher_id, row.connection) for row in found if row.id in handed.ids}:
        await tx.execute(MOVE_ATTEMPTS, {"voucher_id": voucher_id, "of_connection": connection})
    return handed.ids


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Rows that fail where they are and may be made by another connection, by how long they wait for that.

    `asked_at`: by the database's clock, where some wait for a discovery of their own connection that begins later.
    """

    of_wait: dict[timedelta, list[int]]
    asked_at: datetime | None

    @property
    def row_ids(self) -> set[int]:
        """All of them."""
        return {row_id for row_ids in self.of_wait.values() for row_id in row_ids}


async def elsewhere(
    tx: AsyncConnection, row_ids: Sequence[int], failed: Completion, discovered_as_of: datetime | None
) -> Elsewhere:
    """Which of the rows that are about to be `failed` another connection may make: its voucher is that one's by now.

    Or it may be soon, where the API refuses an id and another connection at work sees the hotel: a token that has lost
    a hotel is refused until a discovery of it, and one of the other's. The row waits until one that began since it was
    first refused (`discovered_as_of` is the last) has listed its voucher, and where that is hidden, for `HIDDEN_FOR` at
    most; what was not sent waits for that alone. Meanwhile it is tried again, seldom once that takes longer than a
    discovery does.
    """
    if not row_ids or (failed.was_sent and failed.outcome != Verdict.REFUSED):
        return Elsewhere({}, None)  # of what may have been made nothing is made again
    refusal = (failed.error or "") if failed.http_status == HTTPStatus.BAD_REQUEST else ""
    parameters = {
        "ids": list(row_ids),
        "discovered": discovered_as_of,
        "names_an_id": failed.error == HIDDEN or any(name in refusal for name in outcomes.IDS),
        "was_sent": failed.was_sent,
        "most": HIDDEN_FOR,
    }
    of_wait, asked_at = defaultdict[timedelta, list[int]](list), None
    for row in await tx.execute(_ELSEWHERE, parameters):
        if row.is_anothers:
            of_wait[timedelta()].append(row.id)
        elif row.is_hidden:
            of_wait[TRY_AGAIN].append(row.id)
        else:
            is_new = row.refused_at is None or row.now - row.refused_at < TRY_AGAIN
            of_wait[ASK_AGAIN if is_new else TRY_AGAIN].append(row.id)
            asked_at = row.now
    return Elsewhere(of_wait, asked_at)


# From now on it is due: a look begins where the last one has seen what was due then. A trigger may leave it as it is.
ASSIGN = text("""
WITH assigned AS (
  UPDATE mews.voucher_code_outbox AS row
  SET connection = known.connection, enterprise_id = known.enterprise_id,
      next_attempt_at = greatest(row.next_attempt_at, now()),
      last_error = CASE WHEN starts_with(row.last_error, :refuses) OR row.last_error = :kept THEN NULL
                        ELSE row.last_error END
  FROM mews.vouchers AS known WHERE row.id = ANY (:ids) AND known.id = row.voucher_id
  RETURNING row.id, row.connection = known.connection AS is_known_ones
)
SELECT id FROM assigned WHERE is_known_ones
""").bindparams(IDS, bindparam("refuses", type_=Text), bindparam("kept", type_=Text))
"""Gives rows to whose their vouchers are."""

_TELL = text("SELECT CASE WHEN pg_notification_queue_usage() < 0.5::float8 THEN pg_notify(:channel, '') END")

_ELSEWHERE = text(f"""
SELECT row.id, known.connection <> row.connection AS is_anothers, gone.id IS NOT NULL AS is_hidden, now() AS now,
       first.refused_at
FROM mews.voucher_code_outbox AS row JOIN mews.vouchers AS known ON known.id = row.voucher_id
LEFT JOIN sync.skipped AS gone
  ON gone.connection = row.connection AND gone.id = row.voucher_id AND gone.since > now() - :most
  AND (gone.until IS NULL OR gone.until > now())
CROSS JOIN LATERAL (
  SELECT min(noted.settled_at) AS refused_at FROM mews.voucher_code_outbox_attempts AS noted
  WHERE noted.outbox_id = row.id AND noted.outcome = 'refused'
    AND noted.settled_at > coalesce(row.changed_at, row.created_at)
) AS first
WHERE row.id = ANY (:ids) AND (known.connection <> row.connection OR :names_an_id AND EXISTS (
  SELECT FROM (SELECT name AS connection, enterprise_ids FROM sync.connections) AS other
  WHERE other.connection <> row.connection AND known.enterprise_id = ANY (other.enterprise_ids)
    AND {IS_AT_WORK.format(of="other")}
) AND (gone.id IS NOT NULL OR :was_sent AND (first.refused_at < :discovered) IS NOT TRUE))
""").bindparams(  # noqa: S608 - put together of constants
    IDS,
    bindparam("discovered", type_=TIMESTAMP),
    bindparam("names_an_id", type_=Boolean),
    bindparam("was_sent", type_=Boolean),
    bindparam("most", type_=Interval),
)

_LOCK_UNCERTAIN = text("""
SELECT row.id, row.voucher_id, known.connection
FROM mews.voucher_code_outbox AS row JOIN mews.vouchers AS known ON known.id = row.voucher_id
WHERE row.id = ANY (:ids) AND row.status = 'uncertain' AND known.connection <> row.connection
FOR NO KEY UPDATE OF row SKIP LOCKED
""").bindparams(IDS)

_HAND_ON_UNCERTAIN = text("""
UPDATE mews.voucher_code_outbox AS row
SET connection = known.connection, next_attempt_at = greatest(row.next_attempt_at, now()),
    uncertain_because = CASE row.uncertain_because WHEN 'refused' THEN 'unknown' ELSE row.uncertain_because END
FROM mews.vouchers AS known WHERE row.id = ANY (:ids) AND known.id = row.voucher_id
RETURNING row.id
""").bindparams(IDS)
