"""What somebody is told of by a webhook, and what was told last: once per change, whichever process tells it."""

from alembic import op
import sqlalchemy as sa

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("connection", sa.Text, primary_key=True, comment="The connection."),
        sa.Column("kind", sa.Text, primary_key=True, comment="What holds of it, or held."),
        sa.Column(
            "level", sa.BigInteger, nullable=False, comment="How much of it, or which; 0: it holds no longer."
        ),
        sa.Column("summary", sa.Text, nullable=False, comment="In a sentence, without any code's value."),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False, comment="Since when it is at this level."),
        sa.Column("told_level", sa.BigInteger, nullable=False, server_default="0", comment="The level last told."),
        sa.Column("told_at", sa.DateTime(timezone=True), comment="When that was."),
        sa.Column(
            "claimed_until", sa.DateTime(timezone=True), comment="Until then one process tells it, and no other."
        ),
        schema="sync",
        comment="What somebody is told of by the webhook, and what was told last.",
    )


def downgrade() -> None:
    op.drop_table("alerts", schema="sync")
