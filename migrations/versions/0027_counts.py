"""The codes that were there before they were counted.

It counts in one statement, outside of the migration's transaction, so that no lock of it keeps anybody waiting; whoever
writes meanwhile is counted once all the same, and a count that was interrupted is made good by the next run.
"""

from alembic import op

from sync.postgres.build_index import committed

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

COUNT = """
INSERT INTO sync.code_counts (voucher_id, created_month, issued, active, deleted)
SELECT count.voucher_id, count.created_month, sum(count.issued), sum(count.active), sum(count.deleted)
FROM (
  SELECT code.voucher_id, date_trunc('month', code.created_utc AT TIME ZONE 'UTC')::date AS created_month,
         count(*) AS issued, count(*) FILTER (WHERE code.is_active AND code.missing_since IS NULL) AS active,
         count(*) FILTER (WHERE NOT code.is_active) AS deleted
  FROM mews.voucher_codes AS code GROUP BY 1, 2
  UNION ALL SELECT voucher_id, created_month, -issued, -active, -deleted FROM sync.code_counts
) AS count
GROUP BY 1, 2 HAVING sum(count.issued) <> 0 OR sum(count.active) <> 0 OR sum(count.deleted) <> 0
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.exec_driver_sql("SELECT EXISTS (SELECT FROM mews.voucher_codes)").scalar():
        with committed(connection):
            connection.exec_driver_sql(COUNT)


def downgrade() -> None:
    """What is counted goes with 0026."""
