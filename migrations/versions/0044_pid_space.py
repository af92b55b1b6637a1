"""Replicas are told apart also where hosts have the same name and processes the same number, as in cloned containers.

And each tells by which keys it opens what is stored. The release before this one tells neither, and goes on as it is.
"""

from alembic import op
import sqlalchemy as sa

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

PID_SPACE = "Where its number is one process's: a boot of a machine, and a namespace of processes; empty: unknown."
TAKES = (
    "Whose tokens it has: environment, or stored, and the names of the keys to these, which tell nothing of the keys."
)
TAKES_BEFORE = "Whose tokens it has: environment, or stored, which it has the key to."


def upgrade() -> None:
    new = sa.Column("pid_space", sa.Text(), server_default="", nullable=False, comment=PID_SPACE)
    op.add_column("daemons", new, schema="sync")
    op.execute(f"COMMENT ON COLUMN sync.daemons.takes IS '{TAKES}'")


def downgrade() -> None:
    op.execute(f"COMMENT ON COLUMN sync.daemons.takes IS '{TAKES_BEFORE}'")
    op.drop_column("daemons", "pid_space", schema="sync")
