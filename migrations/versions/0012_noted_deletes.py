"""A delete that was made is noted beside the code, in place of an `updated_utc` that the API has not told.

Until the API shows the code as deleted, the note keeps readings out that are older than the delete. The release before
this one goes on working: it knows nothing of the column, and leaves what stands there. The index holds nothing at first, but the table
is read once for it, in which only the daemon's own writes wait.
"""

from alembic import op
import sqlalchemy as sa

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "voucher_codes",
        sa.Column(
            "delete_noted_at",
            sa.DateTime(timezone=True),
            comment="When voucher-sync deleted it; null once the API has shown it as deleted, by which updated_utc goes.",
        ),
        schema="mews",
    )
    op.create_index(
        "voucher_codes_delete_noted_idx",
        "voucher_codes",
        ["connection", "delete_noted_at"],
        schema="mews",
        postgresql_where=sa.text("delete_noted_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("voucher_codes_delete_noted_idx", "voucher_codes", schema="mews")
    op.drop_column("voucher_codes", "delete_noted_at", schema="mews")
