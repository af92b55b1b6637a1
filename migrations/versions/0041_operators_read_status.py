"""Operators read what `status` tells, but no token and no record as the API sent it.

Who may use a schema may call its functions, and make triggers of them on tables of their own: those of schema `sync` that
run as its owner would then change the outbox, the counts and the history for them. A trigger that is there needs no such
right of whoever sets it off.

The release before this one goes on as it is.
"""

from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

WHOLE = (
    "sync.alembic_version, sync.audits, sync.code_counts, sync.connection_freshness, sync.daemons, sync.incarnation, "
    "sync.outages, sync.plans, sync.request_failures, sync.reservations, sync.runs, sync.samples, sync.skipped, "
    "sync.voucher_audits, sync.windows"
)
OF_CONNECTIONS = (
    "name, state, state_since, error, heartbeat_at, caught_up_as_of, caught_up_through, platform_address, "
    "token_fingerprint, error_kind, origin, paused_at, paused_because, removed_at, added_at, owner, epoch, place, "
    "enterprise_ids"
)
OF_REJECTED = "connection, kind, reason, first_seen_at, sqlstate"
IF_THERE = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_operator') THEN
    {statements}
  END IF;
END $$
"""
COMMENTS = {
    f"COLUMN mews.{view}.{column}": words
    for view in ("coverage", "connection_coverage")
    for column, words in {
        "complete_through": "Every change before this instant, by the API's clock, is mirrored. It moves with each "
        "pull that caught up, also with one that found nothing new.",
        "lag_seconds": "How long ago that pull began, by this database's clock: up to the pull interval and a pull "
        "while all is well, whether or not anything changes in the API.",
    }.items()
}
COMMENTS_BEFORE = {
    f"COLUMN mews.{view}.{column}": words
    for view in ("coverage", "connection_coverage")
    for column, words in {
        "complete_through": "Every change before this instant of the API is mirrored.",
        "lag_seconds": "Age of that instant.",
    }.items()
}


def upgrade() -> None:
    op.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA sync FROM PUBLIC")
    op.execute(
        IF_THERE.format(
            statements=f"GRANT USAGE ON SCHEMA sync TO mews_operator; GRANT SELECT ON {WHOLE} TO mews_operator; "
            f"GRANT SELECT ({OF_CONNECTIONS}) ON sync.connections TO mews_operator; "
            f"GRANT SELECT ({OF_REJECTED}) ON sync.rejected_records TO mews_operator;"
        )
    )
    _comment(COMMENTS)


def downgrade() -> None:
    op.execute(
        IF_THERE.format(
            statements=f"REVOKE SELECT ON {WHOLE} FROM mews_operator; "
            f"REVOKE SELECT ({OF_CONNECTIONS}) ON sync.connections FROM mews_operator; "
            f"REVOKE SELECT ({OF_REJECTED}) ON sync.rejected_records FROM mews_operator; "
            f"REVOKE USAGE ON SCHEMA sync FROM mews_operator;"
        )
    )
    op.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA sync TO PUBLIC")
    _comment(COMMENTS_BEFORE)


def _comment(comments: dict[str, str]) -> None:
    for what, words in comments.items():
        quoted = words.replace("'", "''")
        op.execute(f"COMMENT ON {what} IS '{quoted}'")
