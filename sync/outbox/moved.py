"""Rows whose voucher another connection mirrors by now: they go on with that one.

They were queued by a transaction that stayed open while the voucher was taken over, which could not see them, or were
being claimed or sent in that moment. A change goes on where its voucher is, whoever of the two is at work: only there
is it known which codes there are, and only there may they be written. What is not known of it goes along as it is, and
is looked up there before anything is sent again.
"""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.mirror.take_over import MOVE_ATTEMPTS
from sync.outbox.each_row import IDS, KEPT, REFUSES, Written, write_each, write_rows
from sync.postgres.listen import CHANNEL


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


async def of_another(tx: AsyncConnection, row_ids: Sequence[int]) -> set[int]:
    """The rows whose vouchers are another connection's by now."""
    return set((await tx.execute(_OF_ANOTHER, {"ids": list(row_ids)})).scalars())


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

_TELL = text("SELECT CASE WHEN pg_notification_queue_usage() < 0.5 THEN pg_notify(:channel, '') END")

_OF_ANOTHER = text("""
SELECT row.id FROM mews.voucher_code_outbox AS row JOIN mews.vouchers AS known ON known.id = row.voucher_id
WHERE row.id = ANY (:ids) AND known.connection <> row.connection
""").bindparams(IDS)

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
