"""How many codes of each voucher have expired is counted from an index alone, which has their vouchers too.

Of ten million codes some millions may have expired and never been deleted, all over the table: to count them PostgreSQL
read the whole of it. The release before goes on as it is.
"""

from alembic import op

from sync.postgres.build_index import build_index

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

TABLE = "mews.voucher_codes"
NAME = "voucher_codes_ends_idx"
WHERE = "WHERE is_active AND missing_since IS NULL AND validity_end_utc IS NOT NULL"


def upgrade() -> None:
    replace(f"(validity_end_utc) INCLUDE (voucher_id) {WHERE}")


def downgrade() -> None:
    replace(f"(validity_end_utc) {WHERE}")


def replace(definition: str) -> None:
    """Build the other index, and let it take this one's place: the lock on the table is the last that is waited for."""
    build_index(op.get_bind(), TABLE, f"mews.{NAME}_b", definition, unique=False)
    op.execute(f"DROP INDEX mews.{NAME}")
    op.execute(f"ALTER INDEX mews.{NAME}_b RENAME TO {NAME}")
