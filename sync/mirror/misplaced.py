"""Codes that are noted as another connection's than their voucher is: given to that one.

They are left by a take-over that was interrupted between a voucher's codes and the voucher, or whose voucher's owner
came back meanwhile, and by a page of that owner's which was still on its way.
"""

from collections.abc import Sequence
from functools import partial
from uuid import UUID

from sqlalchemy import Integer, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.mirror.tables import voucher_codes
from sync.postgres.engine import in_transaction
from sync.postgres.refused_rows import Target, write_all

AT_ONCE = 10_000
"""A transaction of so many takes about a second."""


async def put_right(engine: AsyncEngine, voucher_ids: Sequence[UUID]) -> None:
    """Have the codes of these vouchers be whose the vouchers are, but for those that something on the table refuses.

    Raises `DatabaseError` in its variants; `StatementRefused` where it refuses every row.
    """
    after = UUID(int=0)
    while found := await in_transaction(engine, partial(_find, voucher_ids=voucher_ids, after=after)):
        await write_all(engine, _PUT_RIGHT, found)
        after = found[-1]


async def _find(tx: AsyncConnection, voucher_ids: Sequence[UUID], after: UUID) -> Sequence[UUID]:
    # With no statistics of a mirror that was just filled, each code would be compared with each voucher.
    await tx.execute(text("SET LOCAL enable_nestloop = off"))
    parameters = {"voucher_ids": list(voucher_ids), "after": after, "most": AT_ONCE}
    return (await tx.execute(_MISPLACED, parameters)).scalars().all()


async def _move(tx: AsyncConnection, records: Sequence[UUID]) -> int:
    return (await tx.execute(_MOVE, {"ids": list(records)})).rowcount


_PUT_RIGHT: Target[UUID] = Target(voucher_codes, _move, id_of=lambda code_id: code_id)

# Found first, and only then put in order: else the codes of all hotels may be read in that order.
_MISPLACED = text("""
WITH misplaced AS MATERIALIZED (
  SELECT code.id FROM mews.voucher_codes AS code
  JOIN mews.vouchers AS voucher ON voucher.id = code.voucher_id AND code.connection <> voucher.connection
  WHERE code.voucher_id = ANY (:voucher_ids) AND voucher.id = ANY (:voucher_ids) AND code.id > :after
)
SELECT id FROM misplaced ORDER BY id LIMIT :most
""").bindparams(
    bindparam("voucher_ids", type_=ARRAY(UUID_TYPE)),
    bindparam("after", type_=UUID_TYPE),
    bindparam("most", type_=Integer),
)

# Whoever takes a voucher over waits for this lock on it, or is waited for: it stays whose it is meanwhile. As in a
# take-over, mirrored_at stays, and no version of a code ends.
_MOVE = text("""
WITH misplaced AS MATERIALIZED (
  SELECT code.id, voucher.connection FROM mews.voucher_codes AS code
  JOIN mews.vouchers AS voucher ON voucher.id = code.voucher_id AND code.connection <> voucher.connection
  WHERE code.id = ANY (:ids)
  FOR SHARE OF voucher
)
UPDATE mews.voucher_codes AS code SET connection = misplaced.connection FROM misplaced WHERE code.id = misplaced.id
""").bindparams(bindparam("ids", type_=ARRAY(UUID_TYPE)))
