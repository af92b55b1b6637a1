"""Rows whose voucher no connection knows yet: assigned once one does, and failed where no reading shows it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import (
    Text,
    bindparam,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.outbox.each_row import IDS, write_each, write_rows
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
    known = (await tx.execute(_LOCK_KNOWN, {"connection": connection, "limit": MAX_UNASSIGNED})).scalars().all()
    assigned = await write_each(tx, known, partial(write_rows, tx, _ASSIGN))
    return bool(assigned.ids) and max(len(named), len(known)) == MAX_UNASSIGNED


async def fail_unknown(
    tx: AsyncConnection, connection: str, *, discovered_as_of: datetime | None, caught_up_as_of: datetime | None
) -> Waiting:
    """Fail what names a voucher or code that no reading begun since it is due has seen; what the others wait for.

    Both instants are by the database's clock, and None where there was no such reading yet.
    """
    instants = {"discovered": discovered_as_of, "caught_up": caught_up_as_of}
    parameters = {"connection": connection, "limit": MAX_UNASSIGNED, **instants}
    unknown = (await tx.execute(_LOCK_UNKNOWN, parameters)).scalars().all()

    async def fail(row_ids: Sequence[int]) -> Iterable[int]:
        await write_rows(tx, _CLAIM_UNKNOWN, row_ids, connection=connection)
        return await write_rows(tx, _FAIL_UNKNOWN, row_ids)

    failed = len((await write_each(tx, unknown, fail)).ids)
    row = (await tx.execute(_WAITING)).one()
    return Waiting(row.discovery, row.pull, more=failed > 0 and len(unknown) == MAX_UNASSIGNED, failed=failed)


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
LIMIT :limit
FOR NO KEY UPDATE OF unassigned SKIP LOCKED
""").bindparams(bindparam("connection", type_=Text))

# From now on it is due: a look begins where the last one has seen what was due then.
_ASSIGN = text("""
UPDATE mews.voucher_code_outbox AS row
SET connection = known.connection, enterprise_id = known.enterprise_id,
    next_attempt_at = greatest(row.next_attempt_at, now())
FROM mews.vouchers AS known WHERE row.id = ANY (:ids) AND known.id = row.voucher_id
RETURNING row.id
""").bindparams(IDS)

_LOCK_UNKNOWN = text("""
SELECT id FROM mews.voucher_code_outbox AS unassigned
WHERE connection IS NULL AND status = 'pending'
  AND greatest(created_at, next_attempt_at) <= :discovered
  AND (voucher_id IS NOT NULL OR greatest(created_at, next_attempt_at) <= :caught_up)
  AND NOT EXISTS (SELECT FROM mews.vouchers AS known WHERE known.id = unassigned.voucher_id)
  AND (voucher_id IS NOT NULL
       OR NOT EXISTS (SELECT FROM mews.voucher_codes AS known WHERE known.id = unassigned.voucher_code_id))
LIMIT :limit
FOR NO KEY UPDATE SKIP LOCKED
""").bindparams(bindparam("discovered", type_=TIMESTAMP), bindparam("caught_up", type_=TIMESTAMP))

# Through `sending`, as every row that fails. What it names may have come to be known since the adoption just before.
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

_WAITING = text("""
SELECT count(*) FILTER (WHERE voucher_id IS NOT NULL) > 0 AS discovery,
       count(*) FILTER (WHERE voucher_id IS NULL) > 0 AS pull
FROM mews.voucher_code_outbox WHERE connection IS NULL AND status = 'pending' AND next_attempt_at <= now()
""")
