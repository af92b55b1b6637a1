"""The audit: what it has compared, and what it found."""

from alembic import op
import sqlalchemy as sa

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)
FINDINGS = (
    ("equal", "Codes that are the same on both sides."),
    ("differing", "Codes that differ in a column."),
    ("only_here", "Codes that the API no longer has."),
    ("only_there", "Codes that the mirror did not have."),
    ("recent", "Codes that changed too lately to be judged."),
    ("repaired", "Of those that drifted, how many were repaired."),
)

COVERAGE = """
CREATE OR REPLACE VIEW mews.coverage AS
SELECT voucher.id AS voucher_id, voucher.name AS voucher_name, voucher.connection, watermark.mirrored_from,
       CASE WHEN step.was_read THEN greatest(watermark.complete_through, connection.caught_up_through)
            ELSE watermark.complete_through END AS complete_through,
       extract(epoch FROM now() - CASE WHEN step.was_read THEN connection.caught_up_as_of
                                       ELSE watermark.complete_through END)::double precision AS lag_seconds,
       CASE WHEN coalesce(skipped.until > now(), true) THEN skipped.reason END AS skipped_because{more}
FROM mews.vouchers AS voucher
LEFT JOIN sync.watermarks AS watermark ON watermark.voucher_id = voucher.id
LEFT JOIN sync.connections AS connection ON connection.name = watermark.connection
LEFT JOIN sync.skipped AS skipped ON skipped.connection = voucher.connection AND skipped.id = voucher.id{audits}
CROSS JOIN LATERAL (
  SELECT coalesce(watermark.first_saved_at <= connection.caught_up_as_of, false)
     AND (skipped.id IS NULL OR coalesce(skipped.until <= connection.caught_up_as_of, false)) AS was_read
) AS step
"""
WITH_AUDITS = COVERAGE.format(
    more=""",
       CASE WHEN step.was_read THEN connection.caught_up_as_of END AS last_pull_at,
       audit.finished_at AS last_audit_at,
       audit.differing + audit.only_here + audit.only_there AS last_audit_drift""",
    audits="\nLEFT JOIN sync.voucher_audits AS audit ON audit.voucher_id = voucher.id",
)
CONNECTION_COVERAGE = """
CREATE VIEW mews.connection_coverage AS
SELECT connection, count(*) AS vouchers, count(skipped_because) AS skipped,
       CASE WHEN bool_and(complete_through IS NOT NULL OR skipped_because IS NOT NULL)
            THEN min(complete_through) FILTER (WHERE skipped_because IS NULL) END AS complete_through,
       max(lag_seconds) FILTER (WHERE skipped_because IS NULL) AS lag_seconds,
       CASE WHEN bool_and(last_audit_at IS NOT NULL OR skipped_because IS NOT NULL)
            THEN min(last_audit_at) FILTER (WHERE skipped_because IS NULL) END AS audited_since,
       sum(last_audit_drift)::bigint AS last_audit_drift
FROM mews.coverage GROUP BY connection
"""
OLD_COMMENTS = {
    "VIEW mews.coverage": "How far each voucher is mirrored.",
    "COLUMN mews.coverage.voucher_id": "The voucher.",
    "COLUMN mews.coverage.voucher_name": "Its name.",
    "COLUMN mews.coverage.connection": "The connection that mirrors it.",
    "COLUMN mews.coverage.mirrored_from": "First instant from which changes are mirrored; null: not begun.",
    "COLUMN mews.coverage.complete_through": "Every change before this instant of the API is mirrored.",
    "COLUMN mews.coverage.lag_seconds": "Age of that instant.",
    "COLUMN mews.coverage.skipped_because": "Why it is not read at present; null: it is.",
}
COMMENTS = {
    "COLUMN mews.coverage.last_pull_at": "When the last pull that read it began; null: not since it stands still.",
    "COLUMN mews.coverage.last_audit_at": "When all its codes were last compared with those of the API.",
    "COLUMN mews.coverage.last_audit_drift": "How many codes that comparison found wrong.",
    "VIEW mews.connection_coverage": "How far all vouchers of a connection are mirrored: the worst of each.",
    "COLUMN mews.connection_coverage.connection": "The connection.",
    "COLUMN mews.connection_coverage.vouchers": "How many vouchers it has.",
    "COLUMN mews.connection_coverage.skipped": "How many of them are not read at present.",
    "COLUMN mews.connection_coverage.complete_through": "Every change before this instant of the API is mirrored.",
    "COLUMN mews.connection_coverage.lag_seconds": "Age of that instant.",
    "COLUMN mews.connection_coverage.audited_since": "Every voucher was compared at this instant or since; null: not.",
    "COLUMN mews.connection_coverage.last_audit_drift": "How many codes the last comparisons found wrong.",
}


def upgrade() -> None:
    op.create_table(
        "audits",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Number of the audit."),
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection."),
        sa.Column("began_at", TIMESTAMP, server_default=sa.text("now()"), nullable=False, comment="When it began."),
        sa.Column("finished_at", TIMESTAMP, comment="When it ended; null: it goes on."),
        sa.Column("owner", sa.UUID(), nullable=False, comment="Who carries it out."),
        sa.Column("alive_until", TIMESTAMP, nullable=False, comment="After this its owner counts as dead."),
        sa.Column("braked", sa.Text(), comment="Why it changed nothing, although it found drift."),
        sa.PrimaryKeyConstraint("id", name=op.f("audits_pkey")),
        schema="sync",
        comment="Full comparisons of the mirror with the API.",
    )
    op.create_index(
        "audits_open_idx", "audits", ["connection"], unique=True, schema="sync",
        postgresql_where=sa.text("finished_at IS NULL"),
    )  # fmt: skip
    op.create_table(
        "voucher_audits",
        sa.Column("voucher_id", sa.UUID(), nullable=False, comment="The voucher."),
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection."),
        sa.Column("audit_id", sa.BigInteger(), nullable=False, comment="The audit that last compared it."),
        sa.Column("began_at", TIMESTAMP, nullable=False, comment="When its comparison began."),
        sa.Column("settled_before", TIMESTAMP, comment="Changes before this instant of the API were judged."),
        sa.Column("finished_at", TIMESTAMP, comment="When what was found was confirmed; null: not yet."),
        *(
            sa.Column(name, sa.BigInteger(), server_default="0", nullable=False, comment=comment)
            for name, comment in FINDINGS
        ),
        sa.Column("error", sa.Text(), comment="Why it could not be compared."),
        sa.PrimaryKeyConstraint("voucher_id", name=op.f("voucher_audits_pkey")),
        schema="sync",
        comment="The last comparison of each voucher's codes with the API's.",
    )
    op.create_table(
        "audit_seen",
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection."),
        sa.Column("code_id", sa.UUID(), nullable=False, comment="A code that the API lists."),
        sa.PrimaryKeyConstraint("connection", "code_id", name=op.f("audit_seen_pkey")),
        schema="sync",
        comment="Codes of the voucher that is being compared.",
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "audit_candidates",
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection."),
        sa.Column("voucher_id", sa.UUID(), nullable=False, comment="The voucher."),
        sa.Column("code_id", sa.UUID(), nullable=False, comment="A code that seems to have drifted."),
        sa.Column("is_listed", sa.Boolean(), nullable=False, comment="Whether the API listed it."),
        sa.PrimaryKeyConstraint("connection", "voucher_id", "code_id", name=op.f("audit_candidates_pkey")),
        schema="sync",
        comment="Codes that an audit looks at once more before it calls them drifted.",
    )
    op.execute(WITH_AUDITS)
    op.execute(CONNECTION_COVERAGE)
    for name, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {name} IS '{comment}'")


def downgrade() -> None:
    # A view can be given columns in place, but not be rid of them.
    op.execute("DROP VIEW mews.connection_coverage")
    op.execute("DROP VIEW mews.coverage")
    op.execute(COVERAGE.format(more="", audits="").replace("OR REPLACE ", ""))
    for name, comment in OLD_COMMENTS.items():
        op.execute(f"COMMENT ON {name} IS '{comment}'")
    op.drop_table("audit_candidates", schema="sync")
    op.drop_table("audit_seen", schema="sync")
    op.drop_table("voucher_audits", schema="sync")
    op.drop_table("audits", schema="sync")
