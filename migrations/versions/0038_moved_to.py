"""Where to whoever moved the position last has moved it: its witness may lag behind that, where all lost power at once.

The release before this one goes on working: it moves the position and leaves where to, so that nobody counts for it. What
it alone reads stays for it, and goes with a later one.
"""

from alembic import op
import sqlalchemy as sa

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None

MOVED_TO = "Where to; a release before this column leaves it behind."
BEFORE = "The position at which nobody knew a server that was started anew."
AFTER = "Of the release before: this one only clears it, and it goes with the one after."


def upgrade() -> None:
    op.add_column("incarnation", sa.Column("moved_to", sa.BigInteger(), nullable=True, comment=MOVED_TO), schema="sync")
    op.alter_column("incarnation", "unvouched_from", comment=AFTER, existing_comment=BEFORE, schema="sync")


def downgrade() -> None:
    op.alter_column("incarnation", "unvouched_from", comment=BEFORE, existing_comment=AFTER, schema="sync")
    op.drop_column("incarnation", "moved_to", schema="sync")
