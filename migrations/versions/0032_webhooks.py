"""What the vendor tells of integrations is kept until it was verified; a connection notes which hotels its token sees.

The release before this one goes on working: it knows neither.
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column(
        "connections",
        sa.Column(
            "enterprise_ids",
            postgresql.ARRAY(sa.UUID()),
            comment="The hotels that its token saw when they were last discovered; null: never yet.",
        ),
        schema="sync",
    )
    op.create_table(
        "integration_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Number of the event."),
        sa.Column(
            "digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of what was sent: the same is kept once."
        ),
        sa.Column("action", sa.Text(), nullable=False, comment="The vendor's name of what happened."),
        sa.Column("integration_id", sa.Text(), nullable=False, comment="The vendor's name of the integration."),
        sa.Column("enterprise_name", sa.Text(), comment="Name of the hotel, where it was told."),
        sa.Column("access_token", sa.LargeBinary(), comment="The token that came with it, encrypted; null once it ended."),
        sa.Column(
            "received_at", TIMESTAMP, server_default=sa.func.now(), nullable=False, comment="When it was received."
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False, comment="How often it was tried."),
        sa.Column(
            "next_attempt_at", TIMESTAMP, server_default=sa.func.now(), nullable=False, comment="When it is tried next."
        ),
        sa.Column("finished_at", TIMESTAMP, comment="When it was done with; null: it waits."),
        sa.Column("outcome", sa.Text(), comment="What came of it, or why it is tried again."),
        sa.CheckConstraint(
            "finished_at IS NULL OR access_token IS NULL", name=op.f("integration_events_no_needless_token_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("integration_events_pkey")),
        sa.UniqueConstraint("digest", name=op.f("integration_events_digest_key")),
        schema="sync",
        comment="What the vendor told of integrations: a hint, which counts once a call has verified it.",
    )
    op.create_index(
        "integration_events_waiting_idx",
        "integration_events",
        ["next_attempt_at"],
        schema="sync",
        postgresql_where=sa.text("finished_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("integration_events", schema="sync")
    op.drop_column("connections", "enterprise_ids", schema="sync")
