"""Deletes what a removed connection has mirrored, some codes at a time; what another connection sees as well stays."""

from functools import partial

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, UUID
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.core.errors import VoucherSyncError
from sync.fleet.unfinished import refuse_unfinished
from sync.outbox.claims import as_daemon
from sync.outbox.each_row import IDS, write_each, write_rows
from sync.postgres.engine import in_transaction

CODES_AT_ONCE = 10_000
"""A transaction of so many takes about a second, and holds nothing for longer."""
CHANGES_AT_ONCE = 1000
CODES_ARE_KEPT = (
    "codes of connection {name} cannot be deleted, since a trigger or rule on mews.voucher_codes leaves them there: "
    "take it away, and run this again"
)


async def purge(engine: AsyncEngine, name: str) -> int:
    """Delete all rows of a connection that is removed, and then its own; how many codes that were.

    It may be begun again after it was interrupted. Finished changes stay in the outbox for as long as any do; what
    failed is nobody's then, so that it goes by whichever connection sees its voucher by the time that it is retried.
    `VoucherSyncError` where the connection is not removed, changes were queued for it since that are not finished, or
    something keeps its codes.
    """
    total, is_gone, is_again = 0, False, False
    while not is_gone:
        before = total
        while deleted := await in_transaction(engine, partial(_delete_some, name=name)):
            total += deleted
        if is_again and total == before:  # else what was left came with a page that was being stored
            raise VoucherSyncError(CODES_ARE_KEPT.format(name=name))
        while await in_transaction(engine, partial(_leave_some, name=name), as_daemon):
            pass
        is_gone, is_again = await in_transaction(engine, partial(_delete_the_rest, name=name)), True
    return total


async def _delete_some(tx: AsyncConnection, name: str) -> int:
    if (await tx.execute(_IS_REMOVED, {"name": name})).scalar_one_or_none() is None:
        raise VoucherSyncError(f"there is no removed connection {name}: `voucher-sync connections remove` it first")
    await refuse_unfinished(tx, name)
    some = {"ids": (await tx.execute(_SOME_CODES, {"name": name, "most": CODES_AT_ONCE})).scalars().all()}
    await tx.execute(_VERSIONS, some)
    return (await tx.execute(_CODES, some)).rowcount


async def _leave_some(tx: AsyncConnection, name: str) -> int:
    failed = (await tx.execute(_SOME_FAILED, {"name": name, "most": CHANGES_AT_ONCE})).scalars().all()
    return len((await write_each(tx, failed, partial(write_rows, tx, _LEAVE))).ids)


async def _delete_the_rest(tx: AsyncConnection, name: str) -> bool:
    """False where there are codes still: whoever reads some, or notes something, does so before this or not at all."""
    await tx.execute(_TAKE_ALONE, {"name": name})
    if (await tx.execute(_HAS_CODES, {"name": name})).scalar_one():
        return False
    for statement in _THE_REST:
        await tx.execute(text(statement), {"name": name})
    return True


_SOME_FAILED = text("""
SELECT id FROM mews.voucher_code_outbox WHERE connection = :name AND status = 'failed' LIMIT :most
FOR NO KEY UPDATE SKIP LOCKED
""")
# A trigger may leave one as it is, which would be tried for ever.
_LEAVE = text("""
WITH nobodys AS (
  UPDATE mews.voucher_code_outbox AS row SET connection = NULL, enterprise_id = NULL WHERE row.id = ANY (:ids)
  RETURNING row.id, row.connection
)
SELECT id FROM nobodys WHERE connection IS NULL
""").bindparams(IDS)

# Pages that are stored meanwhile wait for the last step alone: else each would wait for the other's rows.
_IS_REMOVED = text("SELECT name FROM sync.connections WHERE name = :name AND removed_at IS NOT NULL FOR NO KEY UPDATE")
_TAKE_ALONE = text("SELECT name FROM sync.connections WHERE name = :name AND removed_at IS NOT NULL FOR UPDATE")

# What others see stays with its voucher, and is theirs from their next discovery on.
_IS_SEEN_BY_OTHERS = """
EXISTS (SELECT FROM sync.connections AS other
        WHERE other.name <> :name AND other.removed_at IS NULL
          AND other.enterprise_ids OPERATOR(pg_catalog.@>) ARRAY[{enterprise_id}])
"""
_OWN_VOUCHERS = f"""
SELECT voucher.id FROM mews.vouchers AS voucher WHERE voucher.connection = :name
AND NOT {_IS_SEEN_BY_OTHERS.format(enterprise_id="voucher.enterprise_id")}
"""  # noqa: S608 - put together of constants
# Locked first: a page that is being stored may change some, and leaves versions that only a later statement sees.
_SOME_CODES = text(f"""
SELECT code.id FROM mews.voucher_codes AS code WHERE code.voucher_id IN ({_OWN_VOUCHERS}) LIMIT :most
FOR UPDATE OF code
""")  # noqa: S608 - put together of constants
_IDS = bindparam("ids", type_=ARRAY(UUID))
_VERSIONS = text("DELETE FROM mews.voucher_code_versions WHERE voucher_code_id = ANY (:ids)").bindparams(_IDS)
_CODES = text("DELETE FROM mews.voucher_codes WHERE id = ANY (:ids)").bindparams(_IDS)
_HAS_CODES = text(f"""
SELECT EXISTS (SELECT FROM mews.voucher_codes AS code WHERE code.voucher_id IN ({_OWN_VOUCHERS}))
""")  # noqa: S608 - as above
_THE_REST = (
    f"DELETE FROM mews.voucher_assignments WHERE voucher_id IN ({_OWN_VOUCHERS})",  # noqa: S608 - as above
    f"DELETE FROM sync.code_counts WHERE voucher_id IN ({_OWN_VOUCHERS})",  # noqa: S608 - as above
    f"DELETE FROM sync.watermarks WHERE voucher_id IN ({_OWN_VOUCHERS})",  # noqa: S608 - as above
    f"DELETE FROM mews.vouchers WHERE id IN ({_OWN_VOUCHERS})",  # noqa: S608 - as above
    "DELETE FROM mews.services AS service WHERE service.connection = :name AND NOT "  # noqa: S608 - as above
    + _IS_SEEN_BY_OTHERS.format(enterprise_id="service.enterprise_id"),
    "DELETE FROM mews.enterprises AS hotel WHERE hotel.connection = :name AND NOT "  # noqa: S608 - as above
    + _IS_SEEN_BY_OTHERS.format(enterprise_id="hotel.id"),
    *(
        f"DELETE FROM sync.{table} WHERE connection = :name"  # noqa: S608 - as above
        for table in (
            "skipped", "plans", "rejected_records", "voucher_audits", "audit_pages", "audit_seen", "audit_candidates",
            "audits", "runs", "outages", "request_failures", "samples",
        )
    ),
    # What somebody was told holds of it, that is told to be over first: whoever tells that deletes it then.
    "DELETE FROM sync.alerts WHERE connection = :name AND told_level = 0",
    "DELETE FROM sync.connections WHERE name = :name AND removed_at IS NOT NULL AND NOT EXISTS "
    "(SELECT FROM mews.vouchers WHERE connection = :name)",
    # One that stays for what others see takes no more pages: as one that was never added, it is known to nobody. The
    # environment's, which nobody adds, is its again once there are tokens for it.
    "UPDATE sync.connections SET added_at = NULL, origin = 'command' WHERE name = :name AND removed_at IS NOT NULL",
)  # fmt: skip
