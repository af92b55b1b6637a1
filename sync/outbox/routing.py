"""Rows whose voucher no connection knows yet: assigned once one does, and failed where no reading shows it.

So are rows of a connection that nobody works for, whose voucher another one mirrors: they were queued by a transaction
that stayed open while the other took the voucher over, which could not see them. Those of one that is at work are
handed on as it claims them (`sync.outbox.moved`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Interval, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.set_aside import SET_ASIDE_FOR
from sync.connection.tables import IS_AT_WORK
from sync.outbox.each_row import IDS, KEPT, REFUSES, Written, write_each, write_rows
from sync.outbox.moved import ASSIGN
from sync.outbox.tables import PENDING_CONNECTIONS, UNASSIGNED
from sync.postgres.metadata import TIMESTAMP

MAX_UNASSIGNED = 20_000
"""So many rows find their connection, or fail, in one transaction, which a million would keep open for 15 s."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What rows without a known voucher or code wait for. `more`: some of them could be sorted out at once.

    `failed`: so many have just failed.
    """

    discovery: bool
    pull: bool
    more: bool = False
    failed: int = 0


async def assign(tx: AsyncConnection, connection: str) -> bool:
    """Give the connection rows whose voucher or code it has come to know; whether there may be more of them."""
    named = (await tx.execute(_LOCK_NAMED, {"limit": MAX_UNASSIGNED})).scalars().all()
    await write_each(tx, named, partial(write_rows, tx, _NAME_CODES))
    of_known = {"connection": connection, "limit": MAX_UNASSIGNED, "refuses": REFUSES, "kept": KEPT}
    known = (await tx.execute(_LOCK_KNOWN, of_known)).scalars().all()
    assigned = await write_each(tx, known, partial(write_rows, tx, ASSIGN, refuses=REFUSES, kept=KEPT))
    await _note_refused(tx, known, assigned)
    return bool(assigned.ids) and max(len(named), len(known)) == MAX_UNASSIGNED


async def take_left_behind(tx: AsyncConnection, connection: str) -> bool:
    """Give the connection rows of its vouchers that wait for another one, for which nobody works; whether any were."""
    left = {"connection": connection, "limit": MAX_UNASSIGNED, "refuses": REFUSES, "kept": KEPT}
    found = (await tx.execute(_LOCK_LEFT_BEHIND, left)).scalars().all()
    taken = await write_each(tx, found, partial(write_rows, tx, ASSIGN, refuses=REFUSES, kept=KEPT))
    await _note_refused(tx, found, taken)
    return bool(taken.ids)


async def fail_unknown(
    tx: AsyncConnection, connection: str, *, discovered_as_of: datetime | None, caught_up_as_of: datetime | None
) -> Waiting:
    """Fail what names a voucher or code that no reading begun since it is due has seen, of any connection that is at
    work; what of the others waits for a reading of this one.

    Both instants are by the database's clock, and None where there was no such reading yet.
    """
    parameters = {
        "connection": connection,
        "limit": MAX_UNASSIGNED,
        "discovered": discovered_as_of,
        "caught_up": caught_up_as_of,
    }
    await tx.execute(_NOTE_LOOKED, parameters)
    unknown = (await tx.execute(_LOCK_UNKNOWN, parameters)).scalars().all()

    async def fail(row_ids: Sequence[int]) -> Iterable[int]:
        await write_rows(tx, _CLAIM_UNKNOWN, row_ids, connection=connection)
        return await write_rows(tx, _FAIL_UNKNOWN, row_ids)

    written = await write_each(tx, unknown, fail)
    await _note_refused(tx, unknown, written)
    failed = len(written.ids)
    row = (await tx.execute(_WAITING, parameters)).one()
    return Waiting(row.discovery, row.pull, more=failed > 0 and len(unknown) == MAX_UNASSIGNED, failed=failed)


async def _note_refused(tx: AsyncConnection, row_ids: Sequence[int], written: Written) -> None:
    """Have rows say why they wait that something on the table keeps from being written, and leave them for a while."""
    refused = written.unwritten(row_ids)
    for reason in set(refused.values()):
        some = [row_id for row_id, one in refused.items() if one == reason]
        await write_each(tx, some, partial(write_rows, tx, _NOTE_REFUSED, reason=reason, rest=SET_ASIDE_FOR))


_DISCOVERED = bindparam("discovered", type_=TIMESTAMP)
_CAUGHT_UP = bindparam("caught_up", type_=TIMESTAMP)

_LOCK_NAMED = text("""
SELECT unassigned.id
FROM mews.voucher_code_outbox AS unassigned JOIN mews.voucher_codes AS code ON code.id = unassigned.voucher_code_id
WHERE unassigned.connection IS NULL AND unassigned.status IN ('pending', 'held') AND unassigned.voucher_id IS NULL
LIMIT :limit
FOR NO KEY UPDATE OF unassigned SKIP LOCKED
""")

_NAME_CODES = text("""
UPDATE mews.voucher_code_outbox AS row SET voucher_id = code.voucher_id, value = code.value
FROM mews.voucher_codes AS code WHERE row.id = ANY (:ids) AND code.id = row.voucher_code_id
RETURNING row.id
""").bindparams(IDS)

_LOCK_KNOWN = text("""
SELECT unassigned.id
FROM mews.voucher_code_outbox AS unassigned JOIN mews.vouchers AS voucher ON voucher.id = unassigned.voucher_id
WHERE unassigned.connection IS NULL AND unassigned.status IN ('pending', 'held') AND voucher.connection = :connection
  AND (unassigned.next_attempt_at <= now()
       OR (starts_with(unassigned.last_error, :refuses) OR unassigned.last_error = :kept) IS NOT TRUE)
LIMIT :limit
FOR NO KEY UPDATE OF unassigned SKIP LOCKED
""").bindparams(bindparam("connection", type_=Text), bindparam("refuses", type_=Text), bindparam("kept", type_=Text))

# Of the connections for which nobody works the rows of this one's hotels are looked at.
_LOCK_LEFT_BEHIND = text(f"""
WITH RECURSIVE {PENDING_CONNECTIONS}, nobodys AS MATERIALIZED (
  SELECT pending.connection FROM pending
  WHERE pending.connection <> :connection AND NOT {IS_AT_WORK.format(of="pending")}
), hotel AS MATERIALIZED (
  SELECT DISTINCT enterprise_id FROM mews.vouchers WHERE connection = :connection AND EXISTS (SELECT FROM nobodys)
)
SELECT row.id
FROM nobodys CROSS JOIN hotel CROSS JOIN pg_catalog.unnest(ARRAY['add', 'delete']) AS kind(operation)
JOIN mews.voucher_code_outbox AS row
  ON row.status = 'pending' AND row.connection = nobodys.connection AND row.operation = kind.operation
  AND row.enterprise_id = hotel.enterprise_id
JOIN mews.vouchers AS voucher ON voucher.id = row.voucher_id AND voucher.connection = :connection
WHERE row.next_attempt_at <= now()
  OR (starts_with(row.last_error, :refuses) OR row.last_error = :kept) IS NOT TRUE
LIMIT :limit
FOR NO KEY UPDATE OF row SKIP LOCKED
""").bindparams(bindparam("connection", type_=Text), bindparam("refuses", type_=Text), bindparam("kept", type_=Text))  # noqa: S608 - put together of constants

# Not before its user's time, nor before the row that it waits for.
_NOTE_REFUSED = text("""
UPDATE mews.voucher_code_outbox
SET last_error = :reason, next_attempt_at = greatest(next_attempt_at, now() + :rest)
WHERE id = ANY (:ids)
RETURNING id
""").bindparams(IDS, bindparam("reason", type_=Text), bindparam("rest", type_=Interval))

# The others read it: what one connection does not see may be another's.
_NOTE_LOOKED = text("""
UPDATE sync.connections AS me
SET vouchers_looked_for_as_of = :discovered, codes_looked_for_as_of = :caught_up
WHERE me.name = :connection
  AND (me.vouchers_looked_for_as_of, me.codes_looked_for_as_of) IS DISTINCT FROM (:discovered, :caught_up)
  AND EXISTS (SELECT FROM mews.voucher_code_outbox WHERE connection IS NULL AND status = 'pending')
""").bindparams(_DISCOVERED, _CAUGHT_UP)

# Waited for is who may look some time: not what is paused, tokens of an environment that no process has any more, nor
# tokens that were refused, or could not be read, for longer than it takes to replace them.
# Found by the vouchers that nobody mirrors: a million rows of one that is known are passed over by one step.
_LOCK_UNKNOWN = text(f"""
WITH RECURSIVE {UNASSIGNED}, looked AS (
  SELECT :discovered AS vouchers_as_of, least(:discovered, :caught_up) AS codes_as_of,
         :discovered IS NOT NULL AND :caught_up IS NOT NULL AS has_pulled
UNION ALL
  SELECT vouchers_looked_for_as_of, least(vouchers_looked_for_as_of, codes_looked_for_as_of),
         vouchers_looked_for_as_of IS NOT NULL AND codes_looked_for_as_of IS NOT NULL
  FROM sync.connections
  WHERE name <> :connection AND removed_at IS NULL AND paused_at IS NULL
    AND (origin <> 'environment' OR EXISTS (SELECT FROM sync.daemons WHERE process = owner))
    AND NOT (state = 'failing' AND state_since < now() - interval '1 hour'
             AND error_kind IN ('Unauthorized', 'Forbidden', 'SettingsError'))
), everybody AS (
  SELECT CASE WHEN bool_and(vouchers_as_of IS NOT NULL) THEN min(vouchers_as_of) END AS vouchers_as_of,
         CASE WHEN bool_and(has_pulled) THEN min(codes_as_of) END AS codes_as_of
  FROM looked
)
SELECT locked.id FROM mews.voucher_code_outbox AS locked
WHERE locked.connection IS NULL AND locked.status || '' = 'pending' AND locked.id = ANY (ARRAY(
  SELECT row.id FROM unassigned AS row CROSS JOIN everybody
  WHERE row.status = 'pending' AND greatest(row.created_at, row.next_attempt_at)
      <= CASE WHEN row.voucher_id IS NOT NULL THEN everybody.vouchers_as_of ELSE everybody.codes_as_of END
    AND (row.voucher_id IS NOT NULL
         OR NOT EXISTS (SELECT FROM mews.voucher_codes AS known WHERE known.id = row.voucher_code_id))
  LIMIT :limit
))
FOR NO KEY UPDATE OF locked SKIP LOCKED
""").bindparams(_DISCOVERED, _CAUGHT_UP)  # noqa: S608 - put together of constants

# Through `sending`, as every row that fails.
_CLAIM_UNKNOWN = text("""
UPDATE mews.voucher_code_outbox SET status = 'sending', attempt_id = gen_random_uuid(), connection = :connection
WHERE id = ANY (:ids)
RETURNING id
""").bindparams(IDS, bindparam("connection", type_=Text))

_FAIL_UNKNOWN = text("""
UPDATE mews.voucher_code_outbox
SET status = 'failed', finished_at = now(), connection = NULL, attempt_id = NULL, last_error = CASE
  WHEN voucher_id IS NULL THEN 'the API lists no code with this voucher_code_id to any connection'
  ELSE 'the API lists no voucher with this voucher_id to any connection' END
WHERE id = ANY (:ids)
RETURNING id
""").bindparams(IDS)

_WAITING = text(f"""
WITH RECURSIVE {UNASSIGNED}, waiting AS (
  SELECT voucher_id, greatest(created_at, next_attempt_at) AS due_at FROM unassigned
  WHERE status = 'pending' AND next_attempt_at <= now()
)
SELECT count(*) FILTER (WHERE voucher_id IS NOT NULL AND due_at <= :discovered IS NOT TRUE) > 0 AS discovery,
       count(*) FILTER (
         WHERE voucher_id IS NULL AND (due_at <= :discovered AND due_at <= :caught_up) IS NOT TRUE
       ) > 0 AS pull
FROM waiting
""").bindparams(_DISCOVERED, _CAUGHT_UP)  # noqa: S608 - put together of constants
