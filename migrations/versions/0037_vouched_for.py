"""Who moved the position last, and whether a database was taken for a copy only for want of somebody who knows it.

The release before this one goes on working: it leaves the name of whoever moved the position before it.
"""

from alembic import op
import sqlalchemy as sa

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

MOVED_BY = "Name of the state directory of whoever moved the position last."
UNVOUCHED_FROM = "The position at which nobody knew a server that was started anew."


def upgrade() -> None:
    op.add_column("incarnation", sa.Column("moved_by", sa.UUID(), nullable=True, comment=MOVED_BY), schema="sync")
    op.add_column(
        "incarnation",
        sa.Column("unvouched_from", sa.BigInteger(), nullable=True, comment=UNVOUCHED_FROM),
        schema="sync",
    )


def downgrade() -> None:
    op.drop_column("incarnation", "unvouched_from", schema="sync")
    op.drop_column("incarnation", "moved_by", schema="sync")
