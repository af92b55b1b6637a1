"""Rows that were queued or put off before the database's clock went back: they wait no longer than was meant.

Rows that wait for another one wait for no clock: see `sync.outbox.followers`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Interval, Text, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.set_aside import SET_ASIDE_FOR
from sync.outbox.database_clock import DatabaseClock, PutOff
from sync.outbox.dispatch import RECHECK_AFTER
from sync.outbox.each_row import IDS, KEPT, REFUSES, RESTS, write_each, write_rows


async def observe(tx: AsyncConnection, connection: str, clock: DatabaseClock) -> None:
    """Have a process observe the database's clock. Its first time must come before its first heartbeat is written.

    It reads then when others were last at work by that clock: what they put off, released or assigned would wait for as
    long as it went back since.
    """
    seen = (await tx.execute(_LAST_SEEN, _LAST_SEEN_OF | {"connection": connection})) if clock.is_new else None
    clock.observe((await tx.execute(_NOW)).scalar_one(), seen.scalar_one() if seen else None)


async def make_due(tx: AsyncConnection, connection: str) -> int:
    """Make rows due that were never sent and were queued, by the database's clock, in its future; how many.

    A user's `not_before` is wall time, and stays.
    """
    if not (await tx.execute(_WENT_BACK)).scalar_one():
        return 0
    row_ids = (await tx.execute(_LOCK_FUTURE, {"connection": connection})).scalars().all()
    return len((await write_each(tx, row_ids, partial(write_rows, tx, _MAKE_DUE))).ids)


async def bring_forward(tx: AsyncConnection, connection: str, went_back: timedelta, missed: PutOff) -> PutOff:
    """Have rows that were put off wait as much less as the database's clock `went_back` meanwhile.

    `missed`: what this returned the last time, which is what others had locked.

    What was put off since then goes sooner than was meant, which a look-up waits for all the same: see
    `sync.outbox.database_clock`. A user's `not_before` is wall time, and stays.
    """
    if not went_back and not missed:
        return {}

    def less(row_id: int, until: datetime) -> timedelta:
        before, owed = missed.get(row_id, (None, timedelta()))
        return went_back + owed if before == until else went_back

    put_off = await _until(tx, _PUT_OFF, connection)
    free = await _until(tx, _FREE_PUT_OFF, connection)
    by = {row_id: less(row_id, until) for row_id, until in free.items()}

    async def write(row_ids: Sequence[int]) -> Iterable[int]:
        given = {"ids": list(row_ids), "by": [by[row_id] for row_id in row_ids]}
        return (await tx.execute(_BRING_FORWARD, given)).scalars()

    await write_each(tx, [row_id for row_id, one in by.items() if one], write)
    left = {row_id: (until, less(row_id, until)) for row_id, until in put_off.items() if row_id not in free}
    return {row_id: one for row_id, one in left.items() if one[1]}


async def _until(tx: AsyncConnection, statement: TextClause, connection: str) -> dict[int, datetime]:
    return {row.id: row.next_attempt_at for row in await tx.execute(statement, {"connection": connection})}


_NOW = text("SELECT clock_timestamp()")

# When a row was put off stands nowhere. But one that was sent was put off after that, and mostly when its outcome was
# noted, or by an operator; and one that was never sent, when it was released, or for so long at most. In three parts,
# each with an index of its own: thousands of connections begin beside a million rows of one.
_LAST_SEEN = text(f"""
SELECT greatest(
  (SELECT greatest(known.heartbeat_at, known.caught_up_as_of) FROM sync.connection_freshness AS known
   WHERE known.name = :connection),
  max(greatest(row.sent_at, row.released_at, row.changed_at)),
  max(CASE WHEN row.attempts = 0 THEN row.next_attempt_at - CASE WHEN {RESTS} THEN :rest ELSE :recheck END
      ELSE (SELECT max(attempt.settled_at) FROM mews.voucher_code_outbox_attempts AS attempt
            WHERE attempt.outbox_id = row.id) END))
FROM (
  SELECT * FROM mews.voucher_code_outbox WHERE status = 'pending' AND connection = :connection
UNION ALL
  SELECT * FROM mews.voucher_code_outbox WHERE status = 'pending' AND connection IS NULL
UNION ALL
  SELECT * FROM mews.voucher_code_outbox WHERE status = 'uncertain' AND connection = :connection
) AS row
WHERE row.next_attempt_at > greatest(now(), row.not_before) AND row.next_attempt_at < '9999-12-31 00:00+00'
""").bindparams(  # noqa: S608 - put together of constants
    bindparam("connection", type_=Text),
    bindparam("refuses", type_=Text),
    bindparam("kept", type_=Text),
    bindparam("rest", type_=Interval),
    bindparam("recheck", type_=Interval),
)
_LAST_SEEN_OF = {"refuses": REFUSES, "kept": KEPT, "rest": SET_ASIDE_FOR, "recheck": RECHECK_AFTER}

# Where nothing went back this is all that is read, whatever the size of the outbox.
_WENT_BACK = text("""
SELECT coalesce(bool_or(newest.created_at > now() + interval '1 second'), false)
FROM (SELECT created_at FROM mews.voucher_code_outbox ORDER BY id DESC LIMIT 1000) AS newest
""")

_LOCK_FUTURE = text("""
SELECT row.id FROM mews.voucher_code_outbox AS row
WHERE row.status = 'pending' AND (row.connection = :connection OR row.connection IS NULL) AND row.attempts = 0
  AND row.created_at > now() + interval '1 second' AND row.next_attempt_at > greatest(now(), row.not_before)
  AND row.next_attempt_at < '9999-12-31 00:00+00'
FOR NO KEY UPDATE SKIP LOCKED
""").bindparams(bindparam("connection", type_=Text))

_ROWS_PUT_OFF = """
SELECT row.id, row.next_attempt_at FROM mews.voucher_code_outbox AS row
WHERE row.status IN ('pending', 'uncertain') AND (row.connection = :connection OR row.connection IS NULL)
  AND row.next_attempt_at > greatest(now(), row.not_before) AND row.next_attempt_at < '9999-12-31 00:00+00'
"""
_PUT_OFF = text(_ROWS_PUT_OFF).bindparams(bindparam("connection", type_=Text))
_FREE_PUT_OFF = text(f"{_ROWS_PUT_OFF} FOR NO KEY UPDATE SKIP LOCKED").bindparams(bindparam("connection", type_=Text))

_BRING_FORWARD = text("""
UPDATE mews.voucher_code_outbox AS row
SET next_attempt_at = greatest(now(), row.not_before, row.next_attempt_at - given.by)
FROM unnest(:ids, :by) AS given (id, by)
WHERE row.id = given.id
RETURNING row.id
""").bindparams(IDS, bindparam("by", type_=ARRAY(Interval)))

_MAKE_DUE = text("""
UPDATE mews.voucher_code_outbox AS row SET next_attempt_at = greatest(now(), row.not_before)
WHERE row.id = ANY (:ids)
RETURNING row.id
""").bindparams(IDS)
