"""The mirror's tables, with their meaning: schema `mews` is for everyone, schema `sync` is the daemon's own.

The migrations build these; `alembic check` holds the two together.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    column,
    func,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL, UUID

from sync.postgres.metadata import TIMESTAMP, metadata, mirrored_columns

services = Table(
    "services",
    metadata,
    Column("id", UUID, primary_key=True, comment="The API's Id."),
    Column("enterprise_id", UUID, nullable=False, comment="The hotel that sells it."),
    Column("name", Text, comment="Name, in English where the API has it."),
    Column("type", Text, comment="The API's Data.Discriminator, for example Bookable or Additional."),
    Column("is_active", Boolean, nullable=False, comment="Whether the service is in use."),
    *mirrored_columns(),
    schema="mews",
    comment="Services of the hotels; vouchers belong to services.",
)

vouchers = Table(
    "vouchers",
    metadata,
    Column("id", UUID, primary_key=True, comment="The API's Id."),
    Column("service_id", UUID, nullable=False, comment="The service it belongs to."),
    Column("enterprise_id", UUID, comment="The hotel it belongs to."),
    Column("name", Text, comment="Name."),
    Column("type", Text, comment="Public, PartnerCompany or TravelAgency."),
    Column("company_id", UUID, comment="The company it is for, if any."),
    Column("travel_agency_id", UUID, comment="The travel agency it is for, if any."),
    Column("occupiable_interval_start_utc", TIMESTAMP, comment="First instant of the stays that it is for."),
    Column("occupiable_interval_end_utc", TIMESTAMP, comment="Last instant of the stays that it is for."),
    Column("external_identifier", Text, comment="Name of it in another system."),
    Column("created_utc", TIMESTAMP, comment="When it was created."),
    Column("updated_utc", TIMESTAMP, comment="When it was last changed."),
    Column("is_active", Boolean, nullable=False, comment="False once it is deleted in the API."),
    *mirrored_columns(),
    Index(None, "connection"),
    schema="mews",
    comment="Vouchers, deleted ones too.",
)

voucher_assignments = Table(
    "voucher_assignments",
    metadata,
    Column("voucher_id", UUID, primary_key=True, comment="The voucher."),
    Column("rate_id", UUID, primary_key=True, comment="A rate that it gives access to."),
    schema="mews",
    comment="Which rates a voucher gives access to.",
)

voucher_codes = Table(
    "voucher_codes",
    metadata,
    Column("id", UUID, primary_key=True, comment="The API's Id."),
    Column("voucher_id", UUID, nullable=False, comment="The voucher it belongs to."),
    Column("value", Text, comment="The code that a customer enters; null where the API's is."),
    Column("validity_start_utc", TIMESTAMP, comment="First instant at which it can be used; null: no bound."),
    Column("validity_end_utc", TIMESTAMP, comment="End of the time in which it can be used; null: no bound."),
    Column("created_utc", TIMESTAMP, comment="When it was created, by the API."),
    Column("updated_utc", TIMESTAMP, comment="When it was last changed, by the API, in whole seconds."),
    Column("is_active", Boolean, nullable=False, comment="False once it is deleted in the API."),
    *mirrored_columns(),
    Column("missing_since", TIMESTAMP, comment="When an audit first did not find it in the API; null: the API has it."),
    Column(
        "delete_noted_at",
        TIMESTAMP,
        comment="When voucher-sync deleted it; null once the API has shown that, of which updated_utc tells only then.",
    ),
    Index(None, "voucher_id", "value"),
    Index(None, "value"),
    Index(None, "mirrored_at"),
    Index(
        "voucher_codes_ends_idx",
        "validity_end_utc",
        postgresql_include=["voucher_id"],
        postgresql_where=text("is_active AND missing_since IS NULL AND validity_end_utc IS NOT NULL"),
    ),
    Index(
        "voucher_codes_deleted_idx",
        "updated_utc",
        postgresql_where=text("NOT is_active"),
    ),
    Index(
        "voucher_codes_delete_noted_idx",
        "connection",
        "delete_noted_at",
        postgresql_where=text("delete_noted_at IS NOT NULL"),
    ),
    schema="mews",
    comment="Voucher codes, deleted ones too: a row for every code that the API has shown.",
)

TRIGGERS = ("count_added", "count_changed", "count_none", "count_removed", "keep_versions")
"""Of the codes, as `history.sql` names them."""

voucher_code_versions = Table(
    "voucher_code_versions",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the version, in any order."),
    Column("voucher_code_id", UUID, nullable=False, comment="The code."),
    Column(
        "valid_from",
        TIMESTAMP,
        nullable=False,
        comment="When the mirror first showed it; of a code's first version, when the API had last changed it by then.",
    ),
    Column("valid_to", TIMESTAMP, nullable=False, comment="When the mirror first showed the next one."),
    Column("changed", ARRAY(Text), nullable=False, comment="Columns that changed then, by which it ended."),
    *(
        Column(column.name, column.type, nullable=column.nullable, comment=column.comment)
        for column in voucher_codes.c
        if column.name not in {"id", "first_seen_at", "mirrored_at"}
    ),
    Index(None, "voucher_code_id", "valid_to"),
    Index(None, "valid_to"),
    schema="mews",
    comment="Versions of codes that were replaced; only an erasure changes one. mews.voucher_code_history has the "
    "present ones too.",
)

voucher_targets = Table(
    "voucher_targets",
    metadata,
    Column("voucher_id", UUID, primary_key=True, comment="The voucher."),
    Column("target", Integer, nullable=False, comment="How many active codes it is to have."),
    Column("note", Text, comment="For people, as the campaign's name."),
    Column("changed_by", Text, comment="Who set it."),
    Column("changed_at", TIMESTAMP, comment="When that was."),
    CheckConstraint("target >= 0", name="target"),
    schema="mews",
    comment="How many active codes vouchers are to have; members of mews_operator write it, mews.voucher_stock "
    "compares.",
)

code_counts = Table(
    "code_counts",
    metadata,
    Column("voucher_id", UUID, nullable=False, comment="The voucher."),
    Column("created_month", Date, comment="First day of the month, by UTC, in which the codes were created."),
    Column("issued", BigInteger, nullable=False, comment="How many more codes there are."),
    Column("active", BigInteger, nullable=False, comment="How many more of them are neither deleted nor missing."),
    Column("deleted", BigInteger, nullable=False, comment="How many more of them are deleted."),
    schema="sync",
    comment="By how much each change of codes changed how many there are; only the sum of a voucher and month counts.",
)

skipped = Table(
    "skipped",
    metadata,
    Column("connection", Text, primary_key=True, comment="The connection that leaves it out."),
    Column("id", UUID, primary_key=True, comment="The service or voucher that is left out."),
    Column("kind", Text, nullable=False, comment="service, or voucher."),
    Column("reason", Text, nullable=False, comment="The API's words, or that it is no longer listed."),
    Column("request_id", Text, comment="The API's name of the refused call."),
    Column("since", TIMESTAMP, nullable=False, server_default=func.now(), comment="When the reason was last found."),
    Column("until", TIMESTAMP, comment="When it is read again, or since when; null: once the API lists it again."),
    CheckConstraint("kind IN ('service', 'voucher')", name="kind"),
    schema="sync",
    comment="What is left out of reading: refused by the API, or no longer listed by it.",
)

watermarks = Table(
    "watermarks",
    metadata,
    Column("voucher_id", UUID, primary_key=True, comment="The voucher."),
    Column("connection", Text, nullable=False, comment="The connection that mirrors it."),
    Column("mirrored_from", TIMESTAMP, nullable=False, comment="First instant from which its changes are mirrored."),
    Column("complete_through", TIMESTAMP, nullable=False, comment="Every change before this instant is mirrored."),
    Column("page_size", Integer, nullable=False, comment="Codes asked for in one call."),
    Column("window_limit", INTERVAL, comment="Longest window to ask for, after the API called longer ones too heavy."),
    Column("slowed_at", TIMESTAMP, comment="When the API last called what was asked for too heavy."),
    Column("first_saved_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When the row was made."),
    Index(None, "connection"),
    schema="sync",
    comment="How far each voucher is mirrored. It moves when something was written, not with every look.",
    # Rows are updated in place often; free space on each page keeps those updates from touching the index.
    postgresql_with={"fillfactor": "50"},
)

plans = Table(
    "plans",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the plan."),
    Column("connection", Text, nullable=False, comment="The connection that reads it."),
    Column("voucher_ids", ARRAY(UUID), nullable=False, comment="The vouchers that are read together."),
    Column("end_utc", TIMESTAMP, nullable=False, comment="End of its last window."),
    Column("page_size", Integer, nullable=False, comment="Codes asked for in one call."),
    Column("window_limit", INTERVAL, comment="Longest window to ask for."),
    Column("windows_planned", Integer, comment="How many windows it has had; null: from an earlier release."),
    Index(None, "connection"),
    schema="sync",
    comment="Windows being read for a group of vouchers; a plan goes when its last window is complete.",
)

windows = Table(
    "windows",
    metadata,
    Column(
        "plan_id",
        BigInteger,
        ForeignKey(plans.c.id, ondelete="CASCADE"),
        primary_key=True,
        comment="The plan it belongs to.",
    ),
    Column("start_utc", TIMESTAMP, primary_key=True, comment="First instant of the window."),
    Column("end_utc", TIMESTAMP, nullable=False, comment="End of the window, not in it."),
    Column("cursor", UUID, comment="Where reading goes on, after the pages that are committed; null: at the newest."),
    CheckConstraint("start_utc < end_utc", name="half_open"),
    schema="sync",
    comment="Windows that are not read to their end yet; a window goes with the commit of its last page.",
)

rejected_records = Table(
    "rejected_records",
    metadata,
    Column("connection", Text, primary_key=True, comment="The connection that received it."),
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the raw text: the same record is kept once."),
    Column("kind", Text, nullable=False, comment="The API's name of the list it came in, for example VoucherCodes."),
    Column("record_id", Text, comment="Its Id, where it has one."),
    Column("raw", Text, nullable=False, comment="Its JSON, as received."),
    Column("reason", Text, nullable=False, comment="Why it could not be stored."),
    Column("first_seen_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it first came."),
    Column(
        "sqlstate",
        Text,
        comment="PostgreSQL's code, where something on the table refuses it; null: it cannot be read.",
    ),
    Index(
        "rejected_records_refused_idx",
        "connection",
        "kind",
        "record_id",
        postgresql_where=text("sqlstate IS NOT NULL"),
    ),
    schema="sync",
    comment="Records from the API that the mirror cannot hold.",
)

coverage = table(
    "coverage",
    column("voucher_id", UUID),
    column("connection", Text),
    column("complete_through", TIMESTAMP),
    column("skipped_because", Text),
    schema="mews",
)
"""The view of that name, as far as it is read here."""

connection_coverage = table(
    "connection_coverage",
    column("connection", Text),
    column("audited_since", TIMESTAMP),
    column("last_audit_drift", BigInteger),
    schema="mews",
)
"""The view of that name, as far as it is read here."""
