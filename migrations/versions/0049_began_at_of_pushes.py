"""The comment of `sync.runs.began_at` says when a push began, as it is noted. The release before this one goes on as it is."""

from alembic import op

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None

BEFORE = "When it began; a push: when the one before was noted."
AFTER = "When it began; of pushes noted together, the first."


def upgrade() -> None:
    op.alter_column("runs", "began_at", comment=AFTER, existing_comment=BEFORE, schema="sync")


def downgrade() -> None:
    op.alter_column("runs", "began_at", comment=BEFORE, existing_comment=AFTER, schema="sync")
