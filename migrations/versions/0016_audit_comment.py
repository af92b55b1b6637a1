"""What sync.audit_seen holds is said rightly: an audit compares up to 1000 vouchers together, and no longer one.

A comment alone changes, which stands in nobody's way but another change of the table's.
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

BEFORE = "Codes of the voucher that is being compared."
AFTER = "Codes of the vouchers that are being compared together."


def upgrade() -> None:
    op.create_table_comment("audit_seen", AFTER, existing_comment=BEFORE, schema="sync")


def downgrade() -> None:
    op.create_table_comment("audit_seen", BEFORE, existing_comment=AFTER, schema="sync")
