"""The mirror in schema mews, and what a pull remembers in schema sync."""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


ACTIVE_VOUCHER_CODES = """
CREATE VIEW mews.active_voucher_codes AS
SELECT code.id, code.value, code.voucher_id, voucher.name AS voucher_name,
       voucher.enterprise_id, enterprise.name AS enterprise_name,
       code.validity_start_utc, code.validity_end_utc, code.created_utc, code.updated_utc
FROM mews.voucher_codes AS code
JOIN mews.vouchers AS voucher ON voucher.id = code.voucher_id
LEFT JOIN mews.enterprises AS enterprise ON enterprise.id = voucher.enterprise_id
WHERE code.is_active AND voucher.is_active AND code.missing_since IS NULL
  AND (code.validity_start_utc IS NULL OR code.validity_start_utc <= now())
  AND (code.validity_end_utc IS NULL OR code.validity_end_utc > now())
"""

# A quiet pull writes no watermark: a voucher that the last pull which caught up has read is as far as that pull came.
# It has read those whose watermark stood when it began, but for those that were skipped then or since.
COVERAGE = """
CREATE VIEW mews.coverage AS
SELECT voucher.id AS voucher_id, voucher.name AS voucher_name, voucher.connection, watermark.mirrored_from,
       CASE WHEN step.was_read THEN greatest(watermark.complete_through, connection.caught_up_through)
            ELSE watermark.complete_through END AS complete_through,
       extract(epoch FROM now() - CASE WHEN step.was_read THEN connection.caught_up_as_of
                                       ELSE watermark.complete_through END)::double precision AS lag_seconds,
       CASE WHEN coalesce(skipped.until > now(), true) THEN skipped.reason END AS skipped_because
FROM mews.vouchers AS voucher
LEFT JOIN sync.watermarks AS watermark ON watermark.voucher_id = voucher.id
LEFT JOIN sync.connections AS connection ON connection.name = watermark.connection
LEFT JOIN sync.skipped AS skipped ON skipped.connection = voucher.connection AND skipped.id = voucher.id
CROSS JOIN LATERAL (
  SELECT coalesce(watermark.first_saved_at <= connection.caught_up_as_of, false)
     AND (skipped.id IS NULL OR coalesce(skipped.until <= connection.caught_up_as_of, false)) AS was_read
) AS step
"""

COMMENTS = {
    "VIEW mews.active_voucher_codes": "Codes that can be used now: active, within their validity, of an active voucher.",
    "COLUMN mews.active_voucher_codes.id": "The code's Id in the API.",
    "COLUMN mews.active_voucher_codes.value": "The code that a customer enters.",
    "COLUMN mews.active_voucher_codes.voucher_id": "The voucher it belongs to.",
    "COLUMN mews.active_voucher_codes.voucher_name": "The voucher's name.",
    "COLUMN mews.active_voucher_codes.enterprise_id": "The hotel.",
    "COLUMN mews.active_voucher_codes.enterprise_name": "The hotel's name.",
    "COLUMN mews.active_voucher_codes.validity_start_utc": "First instant at which it can be used; null: no bound.",
    "COLUMN mews.active_voucher_codes.validity_end_utc": "End of the time in which it can be used; null: no bound.",
    "COLUMN mews.active_voucher_codes.created_utc": "When it was created, by the API.",
    "COLUMN mews.active_voucher_codes.updated_utc": "When it was last changed, by the API.",
    "VIEW mews.coverage": "How far each voucher is mirrored.",
    "COLUMN mews.coverage.voucher_id": "The voucher.",
    "COLUMN mews.coverage.voucher_name": "Its name.",
    "COLUMN mews.coverage.connection": "The connection that mirrors it.",
    "COLUMN mews.coverage.mirrored_from": "First instant from which changes are mirrored; null: not begun.",
    "COLUMN mews.coverage.complete_through": "Every change before this instant of the API is mirrored.",
    "COLUMN mews.coverage.lag_seconds": "Age of that instant.",
    "COLUMN mews.coverage.skipped_because": "Why it is not read at present; null: it is.",
}


def upgrade() -> None:
    op.execute("CREATE SCHEMA mews")
    op.create_table(
        "enterprises",
        sa.Column("id", sa.UUID(), nullable=False, comment="The API's Id."),
        sa.Column("name", sa.Text(), nullable=False, comment="Name of the hotel."),
        sa.Column("time_zone", sa.Text(), comment="IANA name of the hotel's time zone."),
        sa.Column("connection", sa.Text(), nullable=False, comment="Name of the connection that mirrors this row."),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first mirrored.",
        ),
        sa.Column(
            "mirrored_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When a change was last written.",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("enterprises_pkey")),
        schema="mews",
        comment="Hotels (the API's enterprises) that a connection can see.",
    )
    op.create_table(
        "services",
        sa.Column("id", sa.UUID(), nullable=False, comment="The API's Id."),
        sa.Column("enterprise_id", sa.UUID(), nullable=False, comment="The hotel that sells it."),
        sa.Column("name", sa.Text(), comment="Name, in English where the API has it."),
        sa.Column("type", sa.Text(), comment="The API's Data.Discriminator, for example Bookable or Additional."),
        sa.Column("is_active", sa.Boolean(), nullable=False, comment="Whether the service is in use."),
        sa.Column("connection", sa.Text(), nullable=False, comment="Name of the connection that mirrors this row."),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first mirrored.",
        ),
        sa.Column(
            "mirrored_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When a change was last written.",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("services_pkey")),
        schema="mews",
        comment="Services of the hotels; vouchers belong to services.",
    )
    op.create_table(
        "voucher_assignments",
        sa.Column("voucher_id", sa.UUID(), nullable=False, comment="The voucher."),
        sa.Column("rate_id", sa.UUID(), nullable=False, comment="A rate that it gives access to."),
        sa.PrimaryKeyConstraint("voucher_id", "rate_id", name=op.f("voucher_assignments_pkey")),
        schema="mews",
        comment="Which rates a voucher gives access to.",
    )
    op.create_table(
        "voucher_codes",
        sa.Column("id", sa.UUID(), nullable=False, comment="The API's Id."),
        sa.Column("voucher_id", sa.UUID(), nullable=False, comment="The voucher it belongs to."),
        sa.Column("value", sa.Text(), comment="The code that a customer enters; null where the API's is."),
        sa.Column(
            "validity_start_utc",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="First instant at which it can be used; null: no bound.",
        ),
        sa.Column(
            "validity_end_utc",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="End of the time in which it can be used; null: no bound.",
        ),
        sa.Column("created_utc", sa.DateTime(timezone=True), nullable=True, comment="When it was created, by the API."),
        sa.Column(
            "updated_utc",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it was last changed, by the API, in whole seconds.",
        ),
        sa.Column("is_active", sa.Boolean(), nullable=False, comment="False once it is deleted in the API."),
        sa.Column("connection", sa.Text(), nullable=False, comment="Name of the connection that mirrors this row."),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first mirrored.",
        ),
        sa.Column(
            "mirrored_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When a change was last written.",
        ),
        sa.Column(
            "missing_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When an audit first did not find it in the API; null: the API has it.",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("voucher_codes_pkey")),
        schema="mews",
        comment="Voucher codes, deleted ones too: a row for every code that the API has shown.",
    )
    op.create_index(op.f("voucher_codes_value_idx"), "voucher_codes", ["value"], unique=False, schema="mews")
    op.create_index(
        op.f("voucher_codes_voucher_id_value_idx"),
        "voucher_codes",
        ["voucher_id", "value"],
        unique=False,
        schema="mews",
    )
    op.create_table(
        "vouchers",
        sa.Column("id", sa.UUID(), nullable=False, comment="The API's Id."),
        sa.Column("service_id", sa.UUID(), nullable=False, comment="The service it belongs to."),
        sa.Column("enterprise_id", sa.UUID(), nullable=True, comment="The hotel it belongs to."),
        sa.Column("name", sa.Text(), comment="Name."),
        sa.Column("type", sa.Text(), comment="Public, PartnerCompany or TravelAgency."),
        sa.Column("company_id", sa.UUID(), nullable=True, comment="The company it is for, if any."),
        sa.Column("travel_agency_id", sa.UUID(), nullable=True, comment="The travel agency it is for, if any."),
        sa.Column(
            "occupiable_interval_start_utc",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="First instant of the stays that it is for.",
        ),
        sa.Column(
            "occupiable_interval_end_utc",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Last instant of the stays that it is for.",
        ),
        sa.Column("external_identifier", sa.Text(), comment="Name of it in another system."),
        sa.Column("created_utc", sa.DateTime(timezone=True), nullable=True, comment="When it was created."),
        sa.Column("updated_utc", sa.DateTime(timezone=True), nullable=True, comment="When it was last changed."),
        sa.Column("is_active", sa.Boolean(), nullable=False, comment="False once it is deleted in the API."),
        sa.Column("connection", sa.Text(), nullable=False, comment="Name of the connection that mirrors this row."),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it was first mirrored.",
        ),
        sa.Column(
            "mirrored_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When a change was last written.",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("vouchers_pkey")),
        schema="mews",
        comment="Vouchers, deleted ones too.",
    )
    op.create_index(op.f("vouchers_connection_idx"), "vouchers", ["connection"], unique=False, schema="mews")
    op.create_table(
        "connections",
        sa.Column("name", sa.Text(), nullable=False, comment="Name of the connection."),
        sa.Column("state", sa.Text(), nullable=False, comment="ok, or failing."),
        sa.Column(
            "state_since",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="Since when.",
        ),
        sa.Column("error", sa.Text(), comment="Why it is failing."),
        sa.Column(
            "heartbeat_at", sa.DateTime(timezone=True), nullable=True, comment="When a daemon last reported for it."
        ),
        sa.Column(
            "caught_up_as_of",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Start, by this database's clock, of the last pull that caught up.",
        ),
        sa.Column(
            "caught_up_through",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="The server's instant that this pull reached.",
        ),
        sa.CheckConstraint("state IN ('ok', 'failing')", name=op.f("connections_state_check")),
        sa.PrimaryKeyConstraint("name", name=op.f("connections_pkey")),
        schema="sync",
        comment="How each connection is doing.",
    )
    op.create_table(
        "plans",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Number of the plan."),
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection that reads it."),
        sa.Column(
            "voucher_ids", postgresql.ARRAY(sa.UUID()), nullable=False, comment="The vouchers that are read together."
        ),
        sa.Column("end_utc", sa.DateTime(timezone=True), nullable=False, comment="End of its last window."),
        sa.Column("page_size", sa.Integer(), nullable=False, comment="Codes asked for in one call."),
        sa.Column("window_limit", postgresql.INTERVAL(), nullable=True, comment="Longest window to ask for."),
        sa.PrimaryKeyConstraint("id", name=op.f("plans_pkey")),
        schema="sync",
        comment="Windows being read for a group of vouchers; a plan goes when its last window is complete.",
    )
    op.create_index(op.f("plans_connection_idx"), "plans", ["connection"], unique=False, schema="sync")
    op.create_table(
        "rejected_records",
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection that received it."),
        sa.Column(
            "digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the raw text: the same record is kept once."
        ),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="The API's name of the list it came in, for example VoucherCodes.",
        ),
        sa.Column("record_id", sa.Text(), comment="Its Id, where it has one."),
        sa.Column("raw", sa.Text(), nullable=False, comment="Its JSON, as received."),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why it could not be stored."),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When it first came.",
        ),
        sa.PrimaryKeyConstraint("connection", "digest", name=op.f("rejected_records_pkey")),
        schema="sync",
        comment="Records from the API that the mirror cannot hold.",
    )
    op.create_table(
        "skipped",
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection that leaves it out."),
        sa.Column("id", sa.UUID(), nullable=False, comment="The service or voucher that is left out."),
        sa.Column("kind", sa.Text(), nullable=False, comment="service, or voucher."),
        sa.Column(
            "reason", sa.Text(), nullable=False, comment="The API's words, or that it is no longer listed."
        ),
        sa.Column("request_id", sa.Text(), comment="The API's name of the refused call."),
        sa.Column(
            "since",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the reason was last found.",
        ),
        sa.Column(
            "until",
            sa.DateTime(timezone=True),
            comment="When it is read again, or since when; null: once the API lists it again.",
        ),
        sa.CheckConstraint("kind IN ('service', 'voucher')", name=op.f("skipped_kind_check")),
        sa.PrimaryKeyConstraint("connection", "id", name=op.f("skipped_pkey")),
        schema="sync",
        comment="What is left out of reading: refused by the API, or no longer listed by it.",
    )
    op.create_table(
        "watermarks",
        sa.Column("voucher_id", sa.UUID(), nullable=False, comment="The voucher."),
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection that mirrors it."),
        sa.Column(
            "mirrored_from",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="First instant from which its changes are mirrored.",
        ),
        sa.Column(
            "complete_through",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Every change before this instant is mirrored.",
        ),
        sa.Column("page_size", sa.Integer(), nullable=False, comment="Codes asked for in one call."),
        sa.Column(
            "window_limit",
            postgresql.INTERVAL(),
            nullable=True,
            comment="Longest window to ask for, after the API called longer ones too heavy.",
        ),
        sa.Column(
            "slowed_at",
            sa.DateTime(timezone=True),
            comment="When the API last called what was asked for too heavy.",
        ),
        sa.Column(
            "first_saved_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="When the row was made.",
        ),
        sa.PrimaryKeyConstraint("voucher_id", name=op.f("watermarks_pkey")),
        schema="sync",
        comment="How far each voucher is mirrored. It moves when something was written, not with every look.",
        postgresql_with={"fillfactor": "50"},
    )
    op.create_index(op.f("watermarks_connection_idx"), "watermarks", ["connection"], unique=False, schema="sync")
    op.create_table(
        "windows",
        sa.Column("plan_id", sa.BigInteger(), nullable=False, comment="The plan it belongs to."),
        sa.Column("start_utc", sa.DateTime(timezone=True), nullable=False, comment="First instant of the window."),
        sa.Column("end_utc", sa.DateTime(timezone=True), nullable=False, comment="End of the window, not in it."),
        sa.Column(
            "cursor",
            sa.UUID(),
            nullable=True,
            comment="Where reading goes on, after the pages that are committed; null: at the newest.",
        ),
        sa.CheckConstraint("start_utc < end_utc", name=op.f("windows_half_open_check")),
        sa.ForeignKeyConstraint(["plan_id"], ["sync.plans.id"], name=op.f("windows_plan_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("plan_id", "start_utc", name=op.f("windows_pkey")),
        schema="sync",
        comment="Windows that are not read to their end yet; a window goes with the commit of its last page.",
    )
    op.execute(ACTIVE_VOUCHER_CODES)
    op.execute(COVERAGE)
    for item, comment in COMMENTS.items():
        op.execute(f"COMMENT ON {item} IS '{comment.replace(chr(39), chr(39) * 2)}'")
    op.execute(
        "COMMENT ON SCHEMA mews IS 'Mirror of the Mews Connector API, kept by voucher-sync; for everyone to query.'"
    )
    op.execute("COMMENT ON SCHEMA sync IS 'What voucher-sync remembers; its own, and subject to change.'")


def downgrade() -> None:
    op.execute("DROP VIEW mews.coverage")
    op.execute("DROP VIEW mews.active_voucher_codes")
    op.drop_table("windows", schema="sync")
    op.drop_index(op.f("watermarks_connection_idx"), table_name="watermarks", schema="sync")
    op.drop_table("watermarks", schema="sync")
    op.drop_table("rejected_records", schema="sync")
    op.drop_table("skipped", schema="sync")
    op.drop_index(op.f("plans_connection_idx"), table_name="plans", schema="sync")
    op.drop_table("plans", schema="sync")
    op.drop_table("connections", schema="sync")
    op.drop_index(op.f("vouchers_connection_idx"), table_name="vouchers", schema="mews")
    op.drop_table("vouchers", schema="mews")
    op.drop_index(op.f("voucher_codes_voucher_id_value_idx"), table_name="voucher_codes", schema="mews")
    op.drop_index(op.f("voucher_codes_value_idx"), table_name="voucher_codes", schema="mews")
    op.drop_table("voucher_codes", schema="mews")
    op.drop_table("voucher_assignments", schema="mews")
    op.drop_table("services", schema="mews")
    op.drop_table("enterprises", schema="mews")
    op.execute("DROP SCHEMA mews")
