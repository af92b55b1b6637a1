"""The request budget outlives the process: calls are written down before they are made, where other processes see them."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "budgets",
        sa.Column("token_fingerprint", sa.LargeBinary, primary_key=True, comment="As in sync.connections."),
        schema="sync",
        comment=(
            "The access tokens that have a request budget; a row is locked by whoever writes one of its reservations."
        ),
    )
    op.create_table(
        "reservations",
        sa.Column(
            "token_fingerprint",
            sa.LargeBinary,
            sa.ForeignKey("sync.budgets.token_fingerprint", name="reservations_token_fingerprint_fkey"),
            primary_key=True,
            comment="Whose.",
        ),
        sa.Column("process", sa.UUID, primary_key=True, comment="The process that wrote it, by a name of its own."),
        sa.Column("beat", sa.BigInteger, nullable=False, comment="Differs each time that the process writes."),
        sa.Column("reserved", sa.Integer, nullable=False, comment="Calls that it has under way, or may begin."),
        sa.Column(
            "ages_ms",
            ARRAY(sa.Integer),
            nullable=False,
            comment="How long ago, when it wrote this, each other call had ended.",
        ),
        sa.Column("is_waiting", sa.Boolean, nullable=False, comment="It got nothing, although others had more."),
        sa.Column(
            "counts_for_ms",
            sa.BigInteger,
            nullable=False,
            comment="Milliseconds without a new beat after which nothing of what is reserved counts.",
        ),
        sa.CheckConstraint("reserved >= 0", name="reserved"),
        schema="sync",
        comment="What each process has written down of its calls within the API's window, before it makes them.",
        postgresql_with={"fillfactor": "50"},
    )


def downgrade() -> None:
    op.drop_table("reservations", schema="sync")
    op.drop_table("budgets", schema="sync")
