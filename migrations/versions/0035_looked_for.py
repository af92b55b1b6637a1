"""A change of a voucher that no connection knows fails once every connection has looked for it, and no sooner.

Each looked for itself, and the first that did failed what another one's hotel had. What each has seen stands in its row
now, and is written only while such changes wait.
"""

from alembic import op
import sqlalchemy as sa

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

COLUMNS = {
    "vouchers_looked_for_as_of": "Start of its last discovery that looked for vouchers that changes name and nobody knew.",
    "codes_looked_for_as_of": "Start of its last pull that looked for codes that changes name and nobody knew.",
}


def upgrade() -> None:
    for name, comment in COLUMNS.items():
        op.add_column(
            "connections", sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=True, comment=comment), schema="sync"
        )


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("connections", name, schema="sync")
