"""Which connection mirrors what several see, as a portfolio token and one of its hotels do: one at a time.

Who mirrored a voucher first keeps it, with its codes and its queued changes, for as long as that connection is at work
and its API lists the voucher; an upsert never changes whose a row is. Afterwards the next discovery that lists it takes
it over. A voucher of which a change is being sent stays until that is done with: who claimed it completes it.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.tables import IS_AT_WORK
from sync.core.errors import StatementRefused
from sync.mirror import misplaced, skipped
from sync.postgres.engine import in_transaction

CODES_AT_ONCE = 10_000
"""A transaction of so many takes about a second."""


class TakenOver(NamedTuple):
    """How many vouchers were taken, and which stay whose they are for now: a change of each was being sent."""

    taken: int
    left: list[UUID]


async def take_over(
    engine: AsyncEngine, connection: str, listed: Collection[UUID], hotels: Collection[UUID]
) -> TakenOver:
    """Take what the connection lists and nobody else mirrors any more.

    Each voucher is one transaction, behind those of its codes: whoever is interrupted goes on at the next discovery.
    `StatementRefused`, once all others are taken, where something on a table refuses a row of one.
    """
    find = partial(_find, connection=connection, listed=list(listed))
    free, left = await in_transaction(engine, find)
    taken, refusal = 0, None
    for voucher_id, owner in free:
        try:
            if await _take(engine, connection, voucher_id, owner):
                taken += 1
            else:
                left.append(voucher_id)
        except StatementRefused as error:
            refusal = error
    if taken:
        await in_transaction(engine, partial(_move_hotels, connection=connection, hotels=list(hotels)))
    if refusal is not None:
        raise refusal
    return TakenOver(taken, left)


async def _take(engine: AsyncEngine, connection: str, voucher_id: UUID, owner: str) -> bool:
    """One voucher; False where it is free no more, and has all of its codes back."""
    while await in_transaction(engine, partial(_move_codes, connection=connection, voucher_id=voucher_id)):
        pass
    move = partial(_move_voucher, connection=connection, voucher_id=voucher_id, owner=owner)
    is_taken = await in_transaction(engine, move)
    if not is_taken:
        await misplaced.put_right(engine, [voucher_id])
    return is_taken


async def _find(
    tx: AsyncConnection, connection: str, listed: Sequence[UUID]
) -> tuple[list[tuple[UUID, str]], list[UUID]]:
    """The vouchers that are free, and who had each; and those of which a change is being sent.

    Where none is free, as nearly always, the outbox is not looked at.
    """
    free = (await tx.execute(_FREE, {"of_connection": connection, "ids": list(listed)})).all()
    if not free:
        return [], []
    sent = set((await tx.execute(_BEING_SENT, {"ids": [row.id for row in free]})).scalars())
    return [(row.id, row.connection) for row in free if row.id not in sent], [*sent]


async def _move_codes(tx: AsyncConnection, connection: str, voucher_id: UUID) -> int:
    parameters = {"of_connection": connection, "voucher_id": voucher_id, "most": CODES_AT_ONCE}
    return int((await tx.execute(_CODES, parameters)).scalar_one())


async def _move_voucher(tx: AsyncConnection, connection: str, voucher_id: UUID, owner: str) -> bool:
    """The voucher with its watermark and queued changes; False where it is free no more."""
    free, _ = await _find(tx, connection, [voucher_id])
    if (voucher_id, owner) not in free:
        return False
    parameters = {"of_connection": connection, "voucher_id": voucher_id, "owner": owner}
    await skipped.take_out_of_plans(tx, owner, [voucher_id])
    for statement in _OF_VOUCHER:
        await tx.execute(statement, parameters)
    return True


async def _move_hotels(tx: AsyncConnection, connection: str, hotels: Sequence[UUID]) -> None:
    for statement in (_HOTELS, _SERVICES):
        await tx.execute(statement, {"of_connection": connection, "ids": list(hotels)})


_IDS = bindparam("ids", type_=ARRAY(UUID_TYPE))
_FREE = text(f"""
SELECT voucher.id, voucher.connection FROM mews.vouchers AS voucher
WHERE voucher.id = ANY (:ids) AND voucher.connection <> :of_connection
  AND (NOT {IS_AT_WORK.format(of="voucher")} OR EXISTS (
    SELECT FROM sync.skipped AS gone
    WHERE gone.connection = voucher.connection AND gone.id = voucher.id AND gone.kind = 'voucher'
      AND gone.until IS NULL))
ORDER BY voucher.id
FOR NO KEY UPDATE OF voucher
""").bindparams(_IDS)  # noqa: S608 - put together of constants

_BEING_SENT = text("""
SELECT DISTINCT voucher_id FROM mews.voucher_code_outbox WHERE voucher_id = ANY (:ids) AND status = 'sending'
""").bindparams(_IDS)

# Of the codes nothing changes but who reads them, so that mirrored_at stays, and no version of them ends by it. What a
# trigger leaves as it is does not count as moved, or it would be tried for ever.
_CODES = text("""
WITH moved AS (
  UPDATE mews.voucher_codes AS moved SET connection = :of_connection WHERE moved.id IN (
    SELECT code.id FROM mews.voucher_codes AS code
    WHERE code.voucher_id = :voucher_id AND code.connection <> :of_connection ORDER BY code.id LIMIT :most)
  RETURNING moved.connection
)
SELECT count(*) FROM moved WHERE connection = :of_connection
""")
# An attempt is one connection's, which looks up what became of it; others of its rows may stay with the old one.
# What is noted of it goes with it: so the call is told as one, and a refused change fails with the API's words.
MOVE_ATTEMPTS = text("""
WITH moved AS MATERIALIZED (
  SELECT attempt.id AS old_id, gen_random_uuid() AS new_id, attempt.started_at, attempt.until, attempt.server_utc
  FROM sync.attempts AS attempt
  WHERE attempt.connection <> :of_connection AND attempt.id IN (
    SELECT row.attempt_id FROM mews.voucher_code_outbox AS row
    WHERE row.voucher_id = :voucher_id AND row.status = 'uncertain' AND row.connection = :of_connection)
), made AS (
  INSERT INTO sync.attempts (id, connection, started_at, until, server_utc)
  SELECT new_id, :of_connection, started_at, until, server_utc FROM moved
), going AS (
  UPDATE mews.voucher_code_outbox AS row SET attempt_id = moved.new_id FROM moved
  WHERE row.voucher_id = :voucher_id AND row.status = 'uncertain' AND row.attempt_id = moved.old_id
    AND row.connection = :of_connection
  RETURNING row.id, moved.old_id, moved.new_id
)
UPDATE mews.voucher_code_outbox_attempts AS noted SET attempt_id = going.new_id FROM going
WHERE noted.outbox_id = going.id AND noted.attempt_id = going.old_id
""")
"""Gives attempts of a voucher's uncertain rows, and what is noted of them, to whose these rows are."""
_OF_VOUCHER = (
    text("""
UPDATE mews.voucher_codes SET connection = :of_connection
WHERE voucher_id = :voucher_id AND connection <> :of_connection
"""),
    text("""
UPDATE mews.vouchers SET connection = :of_connection, mirrored_at = clock_timestamp() WHERE id = :voucher_id
"""),
    # What quiet pulls of the new connection have reached does not count for it: it begins where the old one wrote last.
    text("""
UPDATE sync.watermarks SET connection = :of_connection, first_saved_at = now() WHERE voucher_id = :voucher_id
"""),
    text("SELECT set_config('voucher_sync.daemon', 'on', true)"),
    text("""
UPDATE mews.voucher_code_outbox SET connection = :of_connection, next_attempt_at = greatest(next_attempt_at, now())
WHERE voucher_id = :voucher_id AND connection = :owner AND status IN ('pending', 'uncertain', 'held', 'failed')
"""),
    MOVE_ATTEMPTS,
)
_HOTELS = text(f"""
UPDATE mews.enterprises AS hotel SET connection = :of_connection, mirrored_at = clock_timestamp()
WHERE hotel.id = ANY (:ids) AND hotel.connection <> :of_connection AND NOT {IS_AT_WORK.format(of="hotel")}
""").bindparams(_IDS)  # noqa: S608 - put together of constants
_SERVICES = text(f"""
UPDATE mews.services AS service SET connection = :of_connection, mirrored_at = clock_timestamp()
WHERE service.enterprise_id = ANY (:ids) AND service.connection <> :of_connection
  AND NOT {IS_AT_WORK.format(of="service")}
""").bindparams(_IDS)  # noqa: S608 - put together of constants
