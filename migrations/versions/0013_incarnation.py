"""The database knows itself: by which server and under which names it was last worked with, and how far."""

from alembic import op
import sqlalchemy as sa

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "incarnation",
        sa.Column("only", sa.Boolean, primary_key=True, server_default=sa.true(), comment="There is one row."),
        sa.Column("id", sa.UUID, comment="The name that whoever works with this database knows it by."),
        sa.Column("position", sa.BigInteger, nullable=False, server_default="0", comment="Only grows, as work goes on."),
        sa.Column("system_identifier", sa.Text, comment="The server that it was last worked with on, by its own name."),
        sa.Column("database_oid", sa.BigInteger, comment="Number of the database there."),
        sa.Column("table_oid", sa.BigInteger, comment="Number of this table there: a restored dump gets another."),
        sa.Column("timeline", sa.BigInteger, comment="Timeline of that server: a promoted standby begins a new one."),
        sa.Column("started_at", TIMESTAMP, comment="When that server was started."),
        sa.Column("gap", sa.Text, comment="copy or behind: how it differs from what was known; null: adopted."),
        sa.Column("gap_at", TIMESTAMP, comment="When that was noticed."),
        sa.Column("gap_through", sa.BigInteger, comment="The last change that was queued by then."),
        sa.CheckConstraint('"only"', name="one_row"),
        sa.CheckConstraint("gap IN ('copy', 'behind')", name="gap"),
        sa.CheckConstraint(
            "(gap IS NULL) = (gap_at IS NULL) AND (gap IS NULL) = (gap_through IS NULL)",
            name="gap_is_whole",
        ),
        schema="sync",
        comment="Which database this is, how far it was worked with, and whether it is the one to work with.",
    )
    op.execute("INSERT INTO sync.incarnation DEFAULT VALUES")


def downgrade() -> None:
    op.drop_table("incarnation", schema="sync")
