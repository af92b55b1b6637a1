"""Claims whose time is over, since the process that made them ended: their rows become uncertain."""

from datetime import timedelta
from functools import partial

from sqlalchemy import (
    Interval,
    Text,
    bindparam,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.each_row import IDS, write_each, write_rows


async def expire_claims(tx: AsyncConnection, connection: str, wait: timedelta) -> int:
    """Make the claims of the dead uncertain, to be looked up after `wait`, and forget their attempts without any; how
    many rows.
    """
    dead = (await tx.execute(_LOCK_DEAD, {"connection": connection})).scalars().all()
    rescued = len((await write_each(tx, dead, partial(write_rows, tx, _EXPIRE, wait=wait))).ids)
    await tx.execute(_FORGET_EMPTY, {"connection": connection})
    return rescued


# An attempt that is not there any more can complete nothing either. A row that was just moved to another attempt, which
# this statement cannot see, is not dead; and one that a user holds is rescued later.
_LOCK_DEAD = text("""
WITH dead AS MATERIALIZED (
  SELECT id, attempt_id FROM mews.voucher_code_outbox AS row
  WHERE row.status = 'sending' AND row.connection = :connection
    AND NOT EXISTS (SELECT FROM sync.attempts WHERE id = row.attempt_id AND until >= now())
)
SELECT row.id FROM mews.voucher_code_outbox AS row JOIN dead ON dead.id = row.id AND dead.attempt_id = row.attempt_id
WHERE row.status = 'sending'
FOR NO KEY UPDATE OF row SKIP LOCKED
""").bindparams(bindparam("connection", type_=Text))

_EXPIRE = text("""
UPDATE mews.voucher_code_outbox AS row
SET status = 'uncertain', uncertain_because = 'expired', next_attempt_at = now() + :wait,
    unknown_since_utc = coalesce(
      row.unknown_since_utc, (SELECT server_utc FROM sync.attempts WHERE id = row.attempt_id), row.first_sent_utc),
    last_error = 'the process that sent it ended before it had noted an answer'
WHERE row.id = ANY (:ids)
RETURNING row.id
""").bindparams(IDS, bindparam("wait", type_=Interval))

# Who dies in a search may leave one whose rows are all in another's.
_FORGET_EMPTY = text("""
DELETE FROM sync.attempts AS attempt
WHERE attempt.connection = :connection AND attempt.until < now() AND NOT EXISTS (
  SELECT FROM mews.voucher_code_outbox AS row
  WHERE row.attempt_id = attempt.id AND row.status IN ('sending', 'uncertain')
)
""")
