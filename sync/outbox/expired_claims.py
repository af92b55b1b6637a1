"""Claims whose time is over, since the process that made them ended: their rows become uncertain.

Which they are is told by `sync.outbox.claim_watch`, never by the database's clock.
"""

import time
from collections.abc import Callable, Collection
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
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.outbox.claim_watch import ClaimWatch, SignOfLife
from sync.outbox.claims import as_daemon
from sync.outbox.each_row import IDS, write_each, write_rows
from sync.outbox.tables import attempts
from sync.postgres.engine import in_transaction
from sync.postgres.metadata import TIMESTAMP


async def expire_claims(
    tx: AsyncConnection, connection: str, watch: ClaimWatch, wait: timedelta, *, with_orphans: bool = True
) -> int:
    """Make the claims of the dead uncertain, to be looked up after `wait`, and forget their attempts without any; how
    many rows. `with_orphans`: also rows of attempts that are not there, for which all that was ever sent is read.
    """
    over = watch.expired(await signs_of_life(tx, connection))
    of_dead = {
        "connection": connection,
        "attempts": [one.attempt_id for one in over],
        "untils": [o.until for o in over],
    }
    dead = list((await tx.execute(_LOCK_DEAD, of_dead)).scalars()) if over else []
    if with_orphans:
        dead += (await tx.execute(_LOCK_ORPHANS, {"connection": connection})).scalars()
    expired = len((await write_each(tx, dead, partial(write_rows, tx, _EXPIRE, wait=wait))).ids)
    if over:
        await tx.execute(_FORGET_EMPTY, of_dead)
    return expired


class AbandonedClaims:
    """Claims of connections that nobody works for: a replica died over them, and each was paused before another had it.

    Another connection that sees their vouchers takes these over once no change of them is `sending`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._watches: dict[str, ClaimWatch] = {}

    async def expire(self, engine: AsyncEngine, names: Collection[str], lease: timedelta, wait: timedelta) -> None:
        """Make them uncertain, once they are over by this process's own watch. Raises `DatabaseError`."""
        self._watches = {name: self._watches.get(name) or ClaimWatch(lease, self._clock) for name in names}
        for name, watch in self._watches.items():
            expire = partial(expire_claims, connection=name, watch=watch, wait=wait, with_orphans=False)
            await in_transaction(engine, expire, as_daemon)


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

# A row that was just moved to another attempt, which the statement cannot see, is not dead; nor is an attempt that has
# shown life since it was looked at; and the claim of a row that a user has locked expires later.
_LOCK = """
WITH dead AS MATERIALIZED ({dead})
SELECT row.id FROM mews.voucher_code_outbox AS row JOIN dead ON dead.id = row.id AND dead.attempt_id = row.attempt_id
WHERE row.status = 'sending'
FOR NO KEY UPDATE OF row SKIP LOCKED
"""

# By OFFSET each attempt's rows are looked up: whatever was sent before may lie in the index still.
_OF_SILENT = """
  SELECT claimed.id, claimed.attempt_id
  FROM unnest(CAST(:attempts AS uuid[]), CAST(:untils AS timestamptz[])) AS silent(id, until)
  JOIN sync.attempts AS attempt ON attempt.id = silent.id AND attempt.until = silent.until
  CROSS JOIN LATERAL (
    SELECT row.id, row.attempt_id FROM mews.voucher_code_outbox AS row
    WHERE row.attempt_id = attempt.id AND row.status = 'sending' AND row.connection = :connection OFFSET 0
  ) AS claimed
"""
_LOCK_DEAD = text(_LOCK.format(dead=_OF_SILENT)).bindparams(*_OF_DEAD)

# An attempt that is not there can complete nothing either. The daemon leaves none such; a part of a backup may.
_OF_NONE = """
  SELECT row.id, row.attempt_id FROM mews.voucher_code_outbox AS row
  WHERE row.status = 'sending' AND row.connection = :connection
    AND NOT EXISTS (SELECT FROM sync.attempts AS attempt WHERE attempt.id = row.attempt_id)
"""
_LOCK_ORPHANS = text(_LOCK.format(dead=_OF_NONE)).bindparams(bindparam("connection", type_=Text))

_EXPIRE = text("""
UPDATE mews.voucher_code_outbox AS row
SET status = 'uncertain', uncertain_because = 'expired', next_attempt_at = now() + :wait,
    unknown_since_utc = coalesce(
      row.unknown_since_utc, (SELECT server_utc FROM sync.attempts WHERE id = row.attempt_id), row.first_sent_utc),
    last_error = 'the process that sent it ended before it had noted an answer'
WHERE row.id = ANY (:ids)
RETURNING row.id
""").bindparams(IDS, bindparam("wait", type_=Interval))

# A process that dies while it bisects a batch may leave the batch's attempt without rows: all of them are claimed for
# the attempt of a group then.
_FORGET_EMPTY = text("""
DELETE FROM sync.attempts AS attempt
USING unnest(CAST(:attempts AS uuid[]), CAST(:untils AS timestamptz[])) AS silent(id, until)
WHERE attempt.connection = :connection AND attempt.id = silent.id AND attempt.until = silent.until AND NOT EXISTS (
  SELECT FROM mews.voucher_code_outbox AS row
  WHERE row.attempt_id = attempt.id AND row.status IN ('sending', 'uncertain')
)
""").bindparams(*_OF_DEAD)
