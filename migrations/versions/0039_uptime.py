"""How old a reservation is, for a process of the same boot: it waits for nothing that one before it left long ago.

The release before this one goes on working: it leaves both empty, and what it wrote counts from when it is first seen.
"""

from alembic import op
import sqlalchemy as sa

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

COLUMNS = (
    sa.Column("boot", sa.UUID(), comment="The boot of the machine that it was written on; null: not known."),
    sa.Column("uptime_ms", sa.BigInteger(), comment="Milliseconds from that boot until it was written."),
)


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column("reservations", column, schema="sync")


def downgrade() -> None:
    for column in reversed(COLUMNS):
        op.drop_column("reservations", column.name, schema="sync")
