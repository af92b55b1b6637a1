"""Since when an outcome is unknown, which code a delete was sent for, and indexes that a million queued rows need."""

from alembic import op
import sqlalchemy as sa

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SENT_ONLY = "attempts > 0 OR (unknown_since_utc IS NULL AND target_code_id IS NULL)"


def upgrade() -> None:
    op.add_column(
        "voucher_code_outbox",
        sa.Column(
            "unknown_since_utc",
            sa.DateTime(timezone=True),
            comment="When it was first sent without an answer to rely on, by the API's clock; null: it never was.",
        ),
        schema="mews",
    )
    op.add_column(
        "voucher_code_outbox",
        sa.Column("target_code_id", sa.UUID(), comment="The code that a delete was last sent for."),
        schema="mews",
    )
    op.create_check_constraint(
        op.f("voucher_code_outbox_only_sent_rows_have_a_target_check"), "voucher_code_outbox", SENT_ONLY, schema="mews"
    )
    op.create_index(
        "voucher_code_outbox_stray_idx",
        "voucher_code_outbox",
        ["voucher_id"],
        schema="mews",
        postgresql_where=sa.text("connection IS NULL AND status IN ('pending', 'held')"),
    )
    op.create_index(
        "voucher_code_outbox_unreleased_idx",
        "voucher_code_outbox",
        ["connection"],
        schema="mews",
        postgresql_where=sa.text("operation = 'delete' AND status = 'pending' AND released_at IS NULL"),
    )
    # Until now nothing said which attempts were without an answer, so all that may be sent again count as such.
    op.execute("SELECT set_config('voucher_sync.daemon', 'on', true)")
    op.execute(
        "UPDATE mews.voucher_code_outbox SET unknown_since_utc = first_sent_utc, "
        "target_code_id = CASE WHEN operation = 'delete' THEN voucher_code_id END "
        "WHERE attempts > 0 AND status NOT IN ('done', 'cancelled')"
    )


def downgrade() -> None:
    op.drop_index("voucher_code_outbox_unreleased_idx", "voucher_code_outbox", schema="mews")
    op.drop_index("voucher_code_outbox_stray_idx", "voucher_code_outbox", schema="mews")
    op.drop_constraint(
        op.f("voucher_code_outbox_only_sent_rows_have_a_target_check"), "voucher_code_outbox", schema="mews"
    )
    op.drop_column("voucher_code_outbox", "target_code_id", schema="mews")
    op.drop_column("voucher_code_outbox", "unknown_since_utc", schema="mews")
