"""Records that the database refuses are set aside, and a connection remembers whose it is."""

from alembic import op
import sqlalchemy as sa

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "rejected_records",
        sa.Column(
            "sqlstate",
            sa.Text(),
            comment="PostgreSQL's code, where something on the table refuses it; null: it cannot be read.",
        ),
        schema="sync",
    )
    op.create_index(
        "rejected_records_refused_idx",
        "rejected_records",
        ["connection", "kind", "record_id"],
        schema="sync",
        postgresql_where=sa.text("sqlstate IS NOT NULL"),
    )
    op.add_column(
        "voucher_audits",
        sa.Column(
            "refused",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="Codes that something on the table keeps from being stored as they are.",
        ),
        schema="sync",
    )
    op.add_column(
        "connections", sa.Column("platform_address", sa.Text(), comment="The API that it mirrors."), schema="sync"
    )
    op.add_column(
        "connections",
        sa.Column(
            "token_fingerprint",
            sa.LargeBinary(),
            comment="SHA-256 of that address and the token last seen to fit.",
        ),
        schema="sync",
    )


def downgrade() -> None:
    op.drop_column("connections", "token_fingerprint", schema="sync")
    op.drop_column("connections", "platform_address", schema="sync")
    op.drop_column("voucher_audits", "refused", schema="sync")
    op.drop_index("rejected_records_refused_idx", "rejected_records", schema="sync")
    op.drop_column("rejected_records", "sqlstate", schema="sync")
