"""An audit whose process has ended is known to be left, on the machine that it ran on.

The release before this one goes on as it is: what it takes over is told to be nobody's, and waited for as before.
"""

from alembic import op
import sqlalchemy as sa

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

OWNER_PROCESS = "The owner's name, and which process that is of which machine; null, or another's name: not known."


def upgrade() -> None:
    op.add_column("audits", sa.Column("owner_process", sa.Text(), comment=OWNER_PROCESS), schema="sync")


def downgrade() -> None:
    op.drop_column("audits", "owner_process", schema="sync")
