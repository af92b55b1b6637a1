"""How far connections have caught up is told by their replica, of a hundred of them in a row, and not by a row of each.

A view has what counts, and `mews.coverage` reads that. The release before this one goes on working: it writes the row
of each connection, which counts where it is the newer, and where another release owned a connection before, it takes it
for as fresh as that one's row says, which is less than it is.
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)

# The replica's word and the row's: of the two the later one, which is the row's where the API's clock was set back, since
# the row has the same instant then. What a row tells of the future was noted before the database's clock went back.
FRESHNESS = """
CREATE VIEW sync.connection_freshness AS
SELECT one.name, coalesce(noted.noted_at, one.heartbeat_at) AS heartbeat_at,
       CASE WHEN step.is_noted THEN step.as_of ELSE one.caught_up_as_of END AS caught_up_as_of,
       CASE WHEN step.is_noted THEN step.through ELSE one.caught_up_through END AS caught_up_through
FROM sync.connections AS one
LEFT JOIN sync.caught_up AS noted ON noted.process = one.owner AND noted.part = one.place / 100
CROSS JOIN LATERAL (
  SELECT noted.as_of[one.place % 100 + 1] AS as_of, noted.through[one.place % 100 + 1] AS through
) AS told
CROSS JOIN LATERAL (
  SELECT told.as_of, told.through, told.as_of IS NOT NULL
     AND coalesce(one.caught_up_as_of NOT BETWEEN told.as_of AND now(), true) AS is_noted
) AS step
"""
COMMENTS = {
    "VIEW sync.connection_freshness": "When a daemon last reported for each connection, and how far it has caught up.",
    "COLUMN sync.connection_freshness.name": "Name of the connection.",
    "COLUMN sync.connection_freshness.heartbeat_at": "When a daemon last reported for it.",
    "COLUMN sync.connection_freshness.caught_up_as_of": "Start, by this database's clock, of the last pull that caught "
    "up.",
    "COLUMN sync.connection_freshness.caught_up_through": "The server's instant that this pull reached.",
}

COVERAGE = """
CREATE OR REPLACE VIEW mews.coverage AS
SELECT voucher.id AS voucher_id, voucher.name AS voucher_name, voucher.connection, watermark.mirrored_from,
       CASE WHEN step.was_read THEN greatest(watermark.complete_through, connection.caught_up_through)
            ELSE watermark.complete_through END AS complete_through,
       extract(epoch FROM now() - CASE WHEN step.was_read THEN connection.caught_up_as_of
                                       ELSE watermark.complete_through END)::double precision AS lag_seconds,
       CASE WHEN coalesce(skipped.until > now(), true) THEN skipped.reason END AS skipped_because,
       CASE WHEN step.was_read THEN connection.caught_up_as_of END AS last_pull_at,
       audit.finished_at AS last_audit_at,
       audit.differing + audit.only_here + audit.only_there AS last_audit_drift
FROM mews.vouchers AS voucher
LEFT JOIN sync.watermarks AS watermark ON watermark.voucher_id = voucher.id
LEFT JOIN sync.{connections} AS connection ON connection.name = watermark.connection
LEFT JOIN sync.skipped AS skipped ON skipped.connection = voucher.connection AND skipped.id = voucher.id
LEFT JOIN sync.voucher_audits AS audit ON audit.voucher_id = voucher.id
CROSS JOIN LATERAL (
  SELECT coalesce(watermark.first_saved_at <= connection.caught_up_as_of, false)
     AND (skipped.id IS NULL OR coalesce(skipped.until <= connection.caught_up_as_of, false)) AS was_read
) AS step
"""
COLUMNS = (  # of sync.connections: what they said before, and what they say now
    ("heartbeat_at", "When a daemon last reported for it.", "When a daemon last reported for it, as far as it is noted here."),
    ("caught_up_as_of", "Start, by this database's clock, of the last pull that caught up.", "Start, by this database's clock, of the last pull that caught up and is noted here."),
    ("caught_up_through", "The server's instant that this pull reached.", "The server's instant that this pull reached; see sync.connection_freshness."),
)


def upgrade() -> None:
    op.create_table(
        "caught_up",
        sa.Column("process", sa.UUID(), nullable=False, comment="The replica, as in sync.daemons."),
        sa.Column("part", sa.Integer(), nullable=False, comment="Its connections from place 100 times this on."),
        sa.Column(
            "noted_at", TIMESTAMP, server_default=sa.text("now()"), nullable=False, comment="When it last reported."
        ),
        sa.Column(
            "as_of",
            postgresql.ARRAY(TIMESTAMP),
            nullable=False,
            comment="By place: start, by this database's clock, of the last pull that caught up.",
        ),
        sa.Column(
            "through",
            postgresql.ARRAY(TIMESTAMP),
            nullable=False,
            comment="By place: the server's instant that this pull reached.",
        ),
        sa.PrimaryKeyConstraint("process", "part", name=op.f("caught_up_pkey")),
        schema="sync",
        comment="How far the connections of each replica have caught up; see sync.connection_freshness.",
        postgresql_with={"fillfactor": "50"},
    )
    op.add_column(
        "connections",
        sa.Column("place", sa.Integer(), comment="Its place among its owner's in sync.caught_up; null: it has none."),
        schema="sync",
    )
    for name, before, after in COLUMNS:
        op.alter_column("connections", name, comment=after, existing_comment=before, schema="sync")
    op.execute(FRESHNESS)
    for what, comment in COMMENTS.items():
        quoted = comment.replace("'", "''")
        op.execute(f"COMMENT ON {what} IS '{quoted}'")
    op.execute(COVERAGE.format(connections="connection_freshness"))


def downgrade() -> None:
    op.execute("""
        UPDATE sync.connections AS one
        SET heartbeat_at = known.heartbeat_at, caught_up_as_of = known.caught_up_as_of,
            caught_up_through = known.caught_up_through
        FROM sync.connection_freshness AS known WHERE known.name = one.name AND one.place IS NOT NULL
    """)
    op.execute(COVERAGE.format(connections="connections"))
    op.execute("DROP VIEW sync.connection_freshness")
    op.drop_column("connections", "place", schema="sync")
    for name, before, after in COLUMNS:
        op.alter_column("connections", name, comment=before, existing_comment=after, schema="sync")
    op.drop_table("caught_up", schema="sync")
