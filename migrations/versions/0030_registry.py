"""Connections are kept in the database: their encrypted tokens, whether they are paused or removed, and who works for each.

The release before this one goes on working: it knows the connection of the environment alone, and the columns that it does
not know have defaults. The table has a row for each connection, so the CHECKs look at few.
"""

from pathlib import Path

from alembic import op
import sqlalchemy as sa

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

TABLE = "connections"
TIMESTAMP = sa.DateTime(timezone=True)
COLUMNS = (
    sa.Column(
        "origin",
        sa.Text(),
        nullable=False,
        server_default="environment",
        comment="Where its tokens come from: environment, or command or webhook, by which they were stored here.",
    ),
    sa.Column("access_token", sa.LargeBinary(), comment="The access token, encrypted; null: the environment has it."),
    sa.Column("client_token", sa.LargeBinary(), comment="The client token, encrypted; null: the environment's."),
    sa.Column("paused_at", TIMESTAMP, comment="Since when nothing is read or sent for it; null: it is at work."),
    sa.Column("paused_because", sa.Text(), comment="Why."),
    sa.Column("removed_at", TIMESTAMP, comment="When it was removed; its tokens are gone, and its rows may be kept."),
    sa.Column("added_at", TIMESTAMP, comment="When it was last added."),
    sa.Column("integration_id", sa.Text(), comment="The vendor's name of the integration that it came with."),
    sa.Column("owner", sa.UUID(), comment="The process that works for it, as in sync.daemons."),
    sa.Column(
        "epoch", sa.BigInteger(), nullable=False, server_default="0", comment="Grows whenever another process takes it."
    ),
)
CHECKS = {
    "origin": "origin IN ('environment', 'command', 'webhook')",
    "name": "char_length(name) BETWEEN 1 AND 100",
    "stored_is_whole": "origin = 'environment' OR removed_at IS NOT NULL "
    "OR platform_address IS NOT NULL AND access_token IS NOT NULL AND added_at IS NOT NULL",
    "no_needless_token": "(origin <> 'environment' AND removed_at IS NULL) "
    "OR access_token IS NULL AND client_token IS NULL",
    "pause": "paused_because IS NULL OR paused_at IS NOT NULL",
    "epoch": "epoch >= 0",
}
COMMENT = "The connections: where their tokens are, who works for each, and how it is doing."
COMMENT_BEFORE = "How each connection is doing."
TRIGGERS = Path(__file__).with_suffix(".sql")


def upgrade() -> None:
    for column in COLUMNS:
        op.add_column(TABLE, column, schema="sync")
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"{TABLE}_{name}_check"), TABLE, condition, schema="sync")
    op.create_index(
        "connections_integration_idx",
        TABLE,
        ["platform_address", "integration_id"],
        unique=True,
        schema="sync",
        postgresql_ops={"platform_address": 'COLLATE "C"', "integration_id": 'COLLATE "C"'},
        postgresql_where=sa.text("integration_id IS NOT NULL"),
    )
    op.create_table_comment(TABLE, COMMENT, existing_comment=COMMENT_BEFORE, schema="sync")
    op.execute(TRIGGERS.read_text(encoding="ascii"))


def downgrade() -> None:
    op.execute("DROP TRIGGER tell_of_change ON sync.connections")
    op.execute("DROP TRIGGER tell_of_another ON sync.connections")
    op.execute("DROP FUNCTION sync.tell_of_connections()")
    op.create_table_comment(TABLE, COMMENT_BEFORE, existing_comment=COMMENT, schema="sync")
    op.drop_index("connections_integration_idx", TABLE, schema="sync")
    for name in CHECKS:
        op.drop_constraint(f"{TABLE}_{name}_check", TABLE, schema="sync")
    for column in reversed(COLUMNS):
        op.drop_column(TABLE, column.name, schema="sync")
