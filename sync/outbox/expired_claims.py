"""Claims whose time is over, since the process that made them ended: their rows become uncertain.

Which they are is told by `sync.outbox.claim_watch`, never by the database's clock.
"""

from datetime import timedelta
from functools import partial

from sqlalchemy import (
    Interval,
    Text,
    bindparam,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.claim_watch import ClaimWatch, SignOfLife
from sync.outbox.each_row import IDS, write_each, write_rows
from sync.outbox.tables import attempts
from sync.postgres.metadata import TIMESTAMP


async def expire_claims(tx: AsyncConnection, connection: str, watch: ClaimWatch, wait: timedelta) -> int:
    """Make the claims of the dead uncertain, to be looked up after `wait`, and forget their attempts without any; how
    many rows.
    """
    over = watch.expired(await signs_of_life(tx, connection))
    of_dead = {
        "connection": connection,
        "attempts": [one.attempt_id for one in over],
        "untils": [o.until for o in over],
    }
    dead = (await tx.execute(_LOCK_DEAD, of_dead)).scalars().all()
    rescued = len((await write_each(tx, dead, partial(write_rows, tx, _EXPIRE, wait=wait))).ids)
    await tx.execute(_FORGET_EMPTY, of_dead)
    return rescued


async def signs_of_life(tx: AsyncConnection, connection: str) -> list[SignOfLife]:
    """Every open attempt of a connection, its lease as the difference of two instants of one statement."""
    lease = (attempts.c.until - attempts.c.started_at).label("lease")
    open_ = select(attempts.c.id, attempts.c.until, lease).where(attempts.c.connection == connection)
    return [SignOfLife(*row) for row in await tx.execute(open_)]


_OF_DEAD = (
    bindparam("connection", type_=Text),
    bindparam("attempts", type_=ARRAY(UUID_TYPE)),
    bindparam("untils", type_=ARRAY(TIMESTAMP)),
)

# An attempt that is not there any more can complete nothing either. A row that was just moved to another attempt, which
# this statement cannot see, is not dead; nor is an attempt that has shown life since it was looked at; and a row that a
# user holds is rescued later.
_LOCK_DEAD = text("""
WITH dead AS MATERIALIZED (
  SELECT id, attempt_id FROM mews.voucher_code_outbox AS row
  WHERE row.status = 'sending' AND row.connection = :connection
    AND NOT EXISTS (
      SELECT FROM sync.attempts AS attempt WHERE attempt.id = row.attempt_id AND NOT EXISTS (
        SELECT FROM unnest(CAST(:attempts AS uuid[]), CAST(:untils AS timestamptz[])) AS silent(id, until)
        WHERE silent.id = attempt.id AND silent.until = attempt.until))
)
SELECT row.id FROM mews.voucher_code_outbox AS row JOIN dead ON dead.id = row.id AND dead.attempt_id = row.attempt_id
WHERE row.status = 'sending'
FOR NO KEY UPDATE OF row SKIP LOCKED
""").bindparams(*_OF_DEAD)

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
USING unnest(CAST(:attempts AS uuid[]), CAST(:untils AS timestamptz[])) AS silent(id, until)
WHERE attempt.connection = :connection AND attempt.id = silent.id AND attempt.until = silent.until AND NOT EXISTS (
  SELECT FROM mews.voucher_code_outbox AS row
  WHERE row.attempt_id = attempt.id AND row.status IN ('sending', 'uncertain')
)
""").bindparams(*_OF_DEAD)
