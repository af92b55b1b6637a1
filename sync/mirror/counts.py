"""How many codes each voucher has of each month: kept by triggers, made short here, and put right by counting anew."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

WORTH_MERGING = 1000
"""Fewer rows than this are summed up by whoever reads them, faster than they are written anew."""

# As sync.count_codes in history.sql counts.
COUNTED = """
SELECT code.voucher_id, date_trunc('month', code.created_utc AT TIME ZONE 'UTC')::date AS created_month,
       count(*) AS issued, count(*) FILTER (WHERE code.is_active AND code.missing_since IS NULL) AS active,
       count(*) FILTER (WHERE NOT code.is_active) AS deleted
FROM mews.voucher_codes AS code GROUP BY 1, 2
"""
# Two at once wait for each other, and the later one finds no row of what the first has made one of.
_MERGE = text("""
WITH many AS MATERIALIZED (
  SELECT FROM sync.code_counts AS count
  HAVING count(*) >= :least AND count(*) >= 2 * count(DISTINCT (count.voucher_id, count.created_month))
), gone AS (
  DELETE FROM sync.code_counts WHERE EXISTS (SELECT FROM many) RETURNING *
)
INSERT INTO sync.code_counts (voucher_id, created_month, issued, active, deleted)
SELECT gone.voucher_id, gone.created_month, sum(gone.issued), sum(gone.active), sum(gone.deleted)
FROM gone GROUP BY 1, 2 HAVING sum(gone.issued) <> 0.0 OR sum(gone.active) <> 0.0 OR sum(gone.deleted) <> 0.0
""")
# One statement sees codes and counts as of the same instant, since both are committed together: what it adds is right
# whoever writes meanwhile, and it locks no row.
_OWN = "IN (SELECT id FROM mews.vouchers WHERE connection = :connection)"
_CORRECT = text(f"""
INSERT INTO sync.code_counts (voucher_id, created_month, issued, active, deleted)
SELECT count.voucher_id, count.created_month, sum(count.issued), sum(count.active), sum(count.deleted)
FROM ({COUNTED.replace("GROUP BY", f"WHERE code.voucher_id {_OWN} GROUP BY")}
  UNION ALL SELECT voucher_id, created_month, -issued, -active, -deleted FROM sync.code_counts
  WHERE voucher_id {_OWN}) AS count
GROUP BY 1, 2 HAVING sum(count.issued) <> 0.0 OR sum(count.active) <> 0.0 OR sum(count.deleted) <> 0.0
""")  # noqa: S608 - a statement of our own


async def merge(tx: AsyncConnection) -> int:
    """Make one row of many of the same voucher and month, where that is worth it; how many rows are left then, or 0."""
    return (await tx.execute(_MERGE, {"least": WORTH_MERGING})).rowcount


async def correct(tx: AsyncConnection, connection: str) -> int:
    """Count the codes of a connection's vouchers anew; how many counts were wrong, as after triggers were disabled."""
    # In the order in which a TRUNCATE of the codes locks both: else it would be ended as a deadlock.
    await tx.exec_driver_sql("LOCK TABLE mews.voucher_codes IN ACCESS SHARE MODE")
    return (await tx.execute(_CORRECT, {"connection": connection})).rowcount
