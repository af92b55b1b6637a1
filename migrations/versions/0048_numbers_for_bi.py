"""What leaves a voucher's stock is counted when it does: at a delete of our own, and not at that of a code long expired.

And `settled_before` tells no instant that later rows may come before: none at a subscriber of logical replication, and
none that passes the transaction of a login which acts as the owner without inheriting from it. Before release 17 of
PostgreSQL every query of the named views failed that was planned for parallel workers.

The release before this one goes on as it is.
"""

from pathlib import Path

from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).with_suffix(".sql")
FUNCTIONS_BEFORE = Path(__file__).with_name("0045_readers_and_zones.sql")

STOCK = """
CREATE OR REPLACE VIEW mews.voucher_stock AS
SELECT stock.voucher_id, stock.voucher_name, stock.enterprise_id, stock.enterprise_name, stock.voucher_is_active,
       stock.issued, stock.active, stock.expiring_in_7_days, stock.expiring_in_30_days, stock.expired, stock.deleted,
       stock.issued - stock.active - stock.expired - stock.deleted AS missing,
       target.target, CASE WHEN target.target > stock.active THEN target.target - stock.active
                           WHEN target.target IS NOT NULL THEN 0 END AS short_of_target,
       stock.gone_in_30_days,
       CASE WHEN stock.active = 0 THEN 0
            WHEN stock.gone_in_30_days > 0 THEN round(stock.active * 30.0 / stock.gone_in_30_days, 1)
       END AS days_until_empty
FROM (
  SELECT voucher.id AS voucher_id, voucher.name AS voucher_name, voucher.enterprise_id,
         enterprise.name AS enterprise_name, voucher.is_active AS voucher_is_active,
         coalesce(count.issued, 0) AS issued,
         coalesce(count.active, 0) - coalesce(ended.expired, 0) AS active,
         coalesce(ends.in_7_days, 0) AS expiring_in_7_days, coalesce(ends.in_30_days, 0) AS expiring_in_30_days,
         coalesce(ended.expired, 0) AS expired, coalesce(count.deleted, 0) AS deleted,
         coalesce(ended.lately, 0) + coalesce(gone.deleted, 0) AS gone_in_30_days
  FROM mews.vouchers AS voucher
  LEFT JOIN mews.enterprises AS enterprise ON enterprise.id = voucher.enterprise_id
  LEFT JOIN (
    SELECT noted.voucher_id, sum(noted.issued)::bigint AS issued, sum(noted.active)::bigint AS active,
           sum(noted.deleted)::bigint AS deleted
    FROM sync.code_counts AS noted GROUP BY noted.voucher_id
  ) AS count ON count.voucher_id = voucher.id
  LEFT JOIN (
    SELECT code.voucher_id, count(*) AS in_30_days,
           count(*) FILTER (WHERE code.validity_end_utc <= now() + interval '7 days') AS in_7_days
    FROM mews.voucher_codes AS code
    WHERE code.is_active AND code.missing_since IS NULL
      AND code.validity_end_utc > now() AND code.validity_end_utc <= now() + interval '30 days'
    GROUP BY code.voucher_id
  ) AS ends ON ends.voucher_id = voucher.id
  LEFT JOIN (
    SELECT code.voucher_id, count(*) AS expired,
           count(*) FILTER (WHERE code.validity_end_utc > now() - interval '30 days') AS lately
    FROM mews.voucher_codes AS code
    WHERE code.is_active AND code.missing_since IS NULL AND code.validity_end_utc <= now()
    GROUP BY code.voucher_id
  ) AS ended ON ended.voucher_id = voucher.id
  LEFT JOIN (
    SELECT code.voucher_id, count(*) AS deleted
    FROM {gone}
    GROUP BY code.voucher_id
  ) AS gone ON gone.voucher_id = voucher.id
) AS stock
LEFT JOIN mews.voucher_targets AS target ON target.voucher_id = stock.voucher_id
"""
GONE_BEFORE = """mews.voucher_codes AS code
    WHERE NOT code.is_active AND code.updated_utc > now() - interval '30 days'"""
# Each of the two has an index of its own. What had expired long before it was deleted left the stock then.
GONE = """(
      SELECT shown.voucher_id FROM mews.voucher_codes AS shown
      WHERE NOT shown.is_active AND shown.delete_noted_at IS NULL AND shown.updated_utc > now() - interval '30 days'
        AND (shown.validity_end_utc IS NULL OR shown.validity_end_utc > now() - interval '30 days')
      UNION ALL
      SELECT noted.voucher_id FROM mews.voucher_codes AS noted
      WHERE NOT noted.is_active AND noted.delete_noted_at > now() - interval '30 days'
        AND (noted.validity_end_utc IS NULL OR noted.validity_end_utc > now() - interval '30 days')
    ) AS code"""
MEANING_BEFORE = "How many codes expired or were deleted in the last 30 days."
MEANING = "How many codes left the stock in the last 30 days: by their end, or deleted before it."


def upgrade() -> None:
    _load(FUNCTIONS)
    _make_stock(GONE, MEANING)


def downgrade() -> None:
    _make_stock(GONE_BEFORE, MEANING_BEFORE)
    _load(FUNCTIONS_BEFORE)


def _make_stock(gone: str, meaning: str) -> None:
    op.execute(STOCK.format(gone=gone))
    op.execute(f"COMMENT ON COLUMN mews.voucher_stock.gone_in_30_days IS '{meaning}'")


def _load(version: Path) -> None:
    """The functions of a version; the triggers that call them stay as they are, and so do the rights to them."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
