"""What an audit has seen of the API is a row for each page of it, and no longer one for each code.

Of the time that the database took for a page, half went into writing those rows and deleting them again. The table of the
release before stays, since that works on, and goes with a later one.
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

BEFORE = "Codes of the vouchers that are being compared together."
AFTER = "As sync.audit_pages, for the release before that has it; goes with the one after."


def upgrade() -> None:
    op.create_table(
        "audit_pages",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Number of the page."),
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection."),
        sa.Column("listing", sa.UUID(), nullable=False, comment="The listing of some vouchers together that it is of."),
        sa.Column("code_ids", postgresql.ARRAY(sa.UUID()), nullable=False, comment="The codes on it."),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_pages_pkey")),
        schema="sync",
        comment="Codes that the API lists of the vouchers that an audit is comparing.",
        prefixes=["UNLOGGED"],
    )
    op.create_index(op.f("audit_pages_listing_idx"), "audit_pages", ["listing"], schema="sync")
    # Ids of no order cannot be compressed: to try takes longer than to write them.
    op.execute("ALTER TABLE sync.audit_pages ALTER COLUMN code_ids SET STORAGE EXTERNAL")
    op.create_table_comment("audit_seen", AFTER, existing_comment=BEFORE, schema="sync")


def downgrade() -> None:
    op.create_table_comment("audit_seen", BEFORE, existing_comment=AFTER, schema="sync")
    op.drop_table("audit_pages", schema="sync")
