"""The history of runs."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Number of the run."),
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection."),
        sa.Column("kind", sa.Text(), nullable=False, comment="discovery, pull, push, settle or audit."),
        sa.Column("began_at", TIMESTAMP, nullable=False, comment="When it began; a push: when the one before was noted."),
        sa.Column(
            "finished_at", TIMESTAMP, server_default=sa.text("clock_timestamp()"), nullable=False, comment="When it ended."
        ),
        sa.Column("counts", postgresql.JSONB(), nullable=False, comment="What it read, wrote and found, by name."),
        sa.Column("error", sa.Text(), comment="Why it failed, or what of it did."),
        sa.PrimaryKeyConstraint("id", name=op.f("runs_pkey")),
        schema="sync",
        comment="Runs that changed something or failed, kept for 30 days; one that fails like the last leaves none.",
    )
    op.create_index(op.f("runs_connection_id_idx"), "runs", ["connection", "id"], schema="sync")
    op.create_index(op.f("runs_finished_at_idx"), "runs", ["finished_at"], schema="sync")


def downgrade() -> None:
    op.drop_table("runs", schema="sync")
