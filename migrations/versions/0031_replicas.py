"""Replicas beat by a counter, whatever the number of their connections, and tell whether they can be heard dying.

The release before this one goes on working: its rows keep a counter of 0, so that nobody waits for its beats, and it works
for the connection of its environment beside whoever owns that, as two daemons did before: claims keep both from one change.
"""

from alembic import op
import sqlalchemy as sa

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

TABLE = "daemons"
COLUMNS = (
    sa.Column(
        "beat",
        sa.BigInteger(),
        nullable=False,
        server_default="0",
        comment="Grows every two seconds while it lives; 0: it is of a release that has no such counter.",
    ),
    sa.Column(
        "holds_lock",
        sa.Boolean(),
        nullable=False,
        server_default=sa.false(),
        comment="It holds an advisory lock that ends with its session.",
    ),
    sa.Column(
        "takes",
        sa.ARRAY(sa.Text()),
        nullable=False,
        server_default="{}",
        comment="Whose tokens it has: environment, or stored, which it has the key to.",
    ),
)


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column(TABLE, column, schema="sync")


def downgrade() -> None:
    for column in reversed(COLUMNS):
        op.drop_column(TABLE, column.name, schema="sync")
