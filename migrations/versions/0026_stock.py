"""What BI asks most often: counts of codes, stock against targets, names beside codes, how long changes take.

The release before this one goes on working: triggers count what it writes. The codes that are there already are counted by
0027, when no lock is held.
"""

from pathlib import Path

from alembic import op
import sqlalchemy as sa

from sync.postgres.build_index import build_index

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

CODES = "mews.voucher_codes"
INDEXES = {
    "mews.voucher_codes_ends_idx": "(validity_end_utc) "
    "WHERE is_active AND missing_since IS NULL AND validity_end_utc IS NOT NULL",
    "mews.voucher_codes_deleted_idx": "(updated_utc) WHERE NOT is_active",
}
IN_FORCE = Path(__file__).with_suffix(".sql")

# A subquery with OFFSET stays one: so each time zone is looked at once for each hotel, not for each code.
NAMED = """
CREATE VIEW mews.{name} AS
SELECT code.id,{value} code.voucher_id, voucher.name AS voucher_name, voucher.type AS voucher_type,
       voucher.external_identifier AS voucher_external_identifier, voucher.is_active AS voucher_is_active,
       voucher.service_id, service.name AS service_name,
       voucher.enterprise_id, enterprise.name AS enterprise_name, enterprise.time_zone,
       code.is_active, code.missing_since,
       code.is_active AND code.missing_since IS NULL AND coalesce(voucher.is_active, false)
         AND (code.validity_start_utc IS NULL OR code.validity_start_utc <= now())
         AND (code.validity_end_utc IS NULL OR code.validity_end_utc > now()) AS is_usable,
       code.validity_start_utc, code.validity_end_utc, code.created_utc, code.updated_utc,
       CASE WHEN NOT code.is_active THEN coalesce(code.delete_noted_at, code.updated_utc) END AS deleted_utc,
       code.validity_start_utc AT TIME ZONE enterprise.time_zone AS validity_start_local,
       code.validity_end_utc AT TIME ZONE enterprise.time_zone AS validity_end_local,
       code.created_utc AT TIME ZONE enterprise.time_zone AS created_local,
       CASE WHEN NOT code.is_active THEN coalesce(code.delete_noted_at, code.updated_utc) END
         AT TIME ZONE enterprise.time_zone AS deleted_local,
       code.connection, code.first_seen_at, code.mirrored_at
FROM mews.voucher_codes AS code
LEFT JOIN mews.vouchers AS voucher ON voucher.id = code.voucher_id
LEFT JOIN mews.services AS service ON service.id = voucher.service_id
LEFT JOIN (
  SELECT hotel.id, hotel.name, mews.known_time_zone(hotel.time_zone) AS time_zone FROM mews.enterprises AS hotel OFFSET 0
) AS enterprise ON enterprise.id = voucher.enterprise_id
"""
BY_MONTH = """
CREATE VIEW mews.voucher_codes_by_month AS
SELECT count.voucher_id, voucher.name AS voucher_name, voucher.enterprise_id, enterprise.name AS enterprise_name,
       count.created_month, count.issued, count.active, count.deleted
FROM (
  SELECT noted.voucher_id, noted.created_month, sum(noted.issued)::bigint AS issued,
         sum(noted.active)::bigint AS active, sum(noted.deleted)::bigint AS deleted
  FROM sync.code_counts AS noted GROUP BY noted.voucher_id, noted.created_month
) AS count
LEFT JOIN mews.vouchers AS voucher ON voucher.id = count.voucher_id
LEFT JOIN mews.enterprises AS enterprise ON enterprise.id = voucher.enterprise_id
WHERE count.issued <> 0
"""
STOCK = """
CREATE VIEW mews.voucher_stock AS
SELECT stock.voucher_id, stock.voucher_name, stock.enterprise_id, stock.enterprise_name, stock.voucher_is_active,
       stock.issued, stock.active, stock.expiring_in_7_days, stock.expiring_in_30_days, stock.expired, stock.deleted,
       stock.issued - stock.active - stock.expired - stock.deleted AS missing,
       target.target, CASE WHEN target.target > stock.active THEN target.target - stock.active
                           WHEN target.target IS NOT NULL THEN 0 END AS short_of_target,
       stock.gone_in_30_days,
       CASE WHEN stock.active = 0 THEN 0
            WHEN stock.gone_in_30_days > 0 THEN round(stock.active * 30.0 / stock.gone_in_30_days, 1)
       END AS days_until_empty
FROM (
  SELECT voucher.id AS voucher_id, voucher.name AS voucher_name, voucher.enterprise_id,
         enterprise.name AS enterprise_name, voucher.is_active AS voucher_is_active,
         coalesce(count.issued, 0) AS issued,
         coalesce(count.active, 0) - coalesce(ended.expired, 0) AS active,
         coalesce(ends.in_7_days, 0) AS expiring_in_7_days, coalesce(ends.in_30_days, 0) AS expiring_in_30_days,
         coalesce(ended.expired, 0) AS expired, coalesce(count.deleted, 0) AS deleted,
         coalesce(ended.lately, 0) + coalesce(gone.deleted, 0) AS gone_in_30_days
  FROM mews.vouchers AS voucher
  LEFT JOIN mews.enterprises AS enterprise ON enterprise.id = voucher.enterprise_id
  LEFT JOIN (
    SELECT noted.voucher_id, sum(noted.issued)::bigint AS issued, sum(noted.active)::bigint AS active,
           sum(noted.deleted)::bigint AS deleted
    FROM sync.code_counts AS noted GROUP BY noted.voucher_id
  ) AS count ON count.voucher_id = voucher.id
  LEFT JOIN (
    SELECT code.voucher_id, count(*) AS in_30_days,
           count(*) FILTER (WHERE code.validity_end_utc <= now() + interval '7 days') AS in_7_days
    FROM mews.voucher_codes AS code
    WHERE code.is_active AND code.missing_since IS NULL
      AND code.validity_end_utc > now() AND code.validity_end_utc <= now() + interval '30 days'
    GROUP BY code.voucher_id
  ) AS ends ON ends.voucher_id = voucher.id
  LEFT JOIN (
    SELECT code.voucher_id, count(*) AS expired,
           count(*) FILTER (WHERE code.validity_end_utc > now() - interval '30 days') AS lately
    FROM mews.voucher_codes AS code
    WHERE code.is_active AND code.missing_since IS NULL AND code.validity_end_utc <= now()
    GROUP BY code.voucher_id
  ) AS ended ON ended.voucher_id = voucher.id
  LEFT JOIN (
    SELECT code.voucher_id, count(*) AS deleted
    FROM mews.voucher_codes AS code
    WHERE NOT code.is_active AND code.updated_utc > now() - interval '30 days'
    GROUP BY code.voucher_id
  ) AS gone ON gone.voucher_id = voucher.id
) AS stock
LEFT JOIN mews.voucher_targets AS target ON target.voucher_id = stock.voucher_id
"""
LATENCY = """
CREATE VIEW mews.outbox_latency AS
SELECT change.queued_by, change.operation, change.changes, change.first_done_at, change.last_done_at,
       change.percentiles[1] AS p50_s, change.percentiles[2] AS p95_s, change.percentiles[3] AS p99_s, change.max_s
FROM (
  SELECT timed.queued_by, timed.operation, count(*) AS changes, min(timed.finished_at) AS first_done_at,
         max(timed.finished_at) AS last_done_at,
         percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY timed.took_s) AS percentiles,
         max(timed.took_s) AS max_s
  FROM (
    SELECT done.queued_by, done.operation, done.finished_at,
           date_part('epoch', done.finished_at - greatest(done.created_at, done.not_before)) AS took_s
    FROM mews.voucher_code_outbox AS done WHERE done.status = 'done'
  ) AS timed
  GROUP BY timed.queued_by, timed.operation
) AS change
"""
OF_NAMED = {
    "id": "The code's Id in the API.",
    "value": "The code that a customer enters; null where the API's is.",
    "voucher_id": "The voucher it belongs to.",
    "voucher_name": "The voucher's name.",
    "voucher_type": "Public, PartnerCompany or TravelAgency.",
    "voucher_external_identifier": "Name of the voucher in another system.",
    "voucher_is_active": "False once the voucher is deleted in the API.",
    "service_id": "The service that the voucher belongs to.",
    "service_name": "The service's name.",
    "enterprise_id": "The hotel.",
    "enterprise_name": "The hotel's name.",
    "time_zone": "The hotel's time zone; null where this server knows none of that name.",
    "is_active": "False once the code is deleted in the API.",
    "missing_since": "When an audit first did not find it in the API; null: the API has it.",
    "is_usable": "Whether it can be used now: neither deleted nor missing, within its validity, of an active voucher.",
    "validity_start_utc": "First instant at which it can be used; null: no bound.",
    "validity_end_utc": "End of the time in which it can be used; null: no bound.",
    "created_utc": "When it was created, by the API.",
    "updated_utc": "When it was last changed, by the API, in whole seconds.",
    "deleted_utc": "When it was deleted: the last change of a deleted code, or when voucher-sync deleted it until the API tells.",
    "validity_start_local": "The same as validity_start_utc, by the hotel's clocks.",
    "validity_end_local": "The same as validity_end_utc, by the hotel's clocks.",
    "created_local": "The same as created_utc, by the hotel's clocks.",
    "deleted_local": "The same as deleted_utc, by the hotel's clocks.",
    "connection": "Name of the connection that mirrors this row.",
    "first_seen_at": "When it was first mirrored.",
    "mirrored_at": "When a change was last written.",
}
VIEWS = {
    "voucher_codes_named": (
        "All codes, deleted ones too, with the names of voucher, service and hotel, and by the hotel's clocks.",
        OF_NAMED,
    ),
    "voucher_codes_without_values": (
        "All codes as in mews.voucher_codes_named, for those who must not see what customers enter.",
        {name: comment for name, comment in OF_NAMED.items() if name != "value"},
    ),
    "voucher_codes_by_month": (
        "How many codes each voucher has of each month; kept as codes are written, so that it answers at once.",
        {
            "voucher_id": "The voucher.",
            "voucher_name": "Its name; null: it is not known yet.",
            "enterprise_id": "The hotel.",
            "enterprise_name": "The hotel's name.",
            "created_month": "First day of the month, by UTC, in which the codes were created; null: the API does not say.",
            "issued": "How many codes were created.",
            "active": "How many of them are neither deleted nor missing; their validity may be over, or still to come.",
            "deleted": "How many of them are deleted.",
        },
    ),
    "voucher_stock": (
        "What each voucher has of codes, and how long that lasts.",
        {
            "voucher_id": "The voucher.",
            "voucher_name": "Its name.",
            "enterprise_id": "The hotel.",
            "enterprise_name": "The hotel's name.",
            "voucher_is_active": "False once the voucher is deleted in the API.",
            "issued": "All codes that it ever had.",
            "active": "Codes that are neither deleted, missing nor expired; those that begin later count.",
            "expiring_in_7_days": "How many of the active ones expire within 7 days.",
            "expiring_in_30_days": "How many of the active ones expire within 30 days.",
            "expired": "Codes that were not deleted, and whose validity is over.",
            "deleted": "Codes that are deleted.",
            "missing": "Codes that an audit no longer found in the API.",
            "target": "How many active codes it is to have, by mews.voucher_targets.",
            "short_of_target": "How many active codes are missing to the target.",
            "gone_in_30_days": "How many codes expired or were deleted in the last 30 days.",
            "days_until_empty": "For how many days the active codes last if as many go; null: none went.",
        },
    ),
    "outbox_latency": (
        "How long changes took from when they were queued, or might be sent, until they were done.",
        {
            "queued_by": "The database user who queued them.",
            "operation": "add, or delete.",
            "changes": "How many are done, of those that are kept.",
            "first_done_at": "When the first of them was done.",
            "last_done_at": "When the last of them was done.",
            "p50_s": "Half of them took at most so many seconds.",
            "p95_s": "95 of 100 took at most so many seconds.",
            "p99_s": "99 of 100 took at most so many seconds.",
            "max_s": "The slowest took so many seconds.",
        },
    ),
}
GRANT = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_operator') THEN
    GRANT INSERT, UPDATE, DELETE ON mews.voucher_targets TO mews_operator;
  END IF;
END $$
"""


def upgrade() -> None:
    for name, definition in INDEXES.items():
        build_index(op.get_bind(), CODES, name, definition, unique=False)
    op.create_table(
        "voucher_targets",
        sa.Column("voucher_id", sa.UUID(), nullable=False, comment="The voucher."),
        sa.Column("target", sa.Integer(), nullable=False, comment="How many active codes it is to have."),
        sa.Column("note", sa.Text(), comment="For people, as the campaign's name."),
        sa.Column("changed_by", sa.Text(), comment="Who set it."),
        sa.Column("changed_at", sa.DateTime(timezone=True), comment="When that was."),
        sa.CheckConstraint("target >= 0", name=op.f("voucher_targets_target_check")),
        sa.PrimaryKeyConstraint("voucher_id", name=op.f("voucher_targets_pkey")),
        schema="mews",
        comment="How many active codes vouchers are to have; members of mews_operator write it, mews.voucher_stock "
        "compares.",
    )
    op.create_table(
        "code_counts",
        sa.Column("voucher_id", sa.UUID(), nullable=False, comment="The voucher."),
        sa.Column("created_month", sa.Date(), comment="First day of the month, by UTC, in which the codes were created."),
        sa.Column("issued", sa.BigInteger(), nullable=False, comment="How many more codes there are."),
        sa.Column(
            "active", sa.BigInteger(), nullable=False, comment="How many more of them are neither deleted nor missing."
        ),
        sa.Column("deleted", sa.BigInteger(), nullable=False, comment="How many more of them are deleted."),
        schema="sync",
        comment="By how much each change of codes changed how many there are; only the sum of a voucher and month counts.",
    )
    # It has no key, and whoever publishes all tables must still be able to tell its rows apart.
    op.execute("ALTER TABLE sync.code_counts REPLICA IDENTITY FULL")
    op.execute(GRANT)
    op.execute(IN_FORCE.read_text(encoding="ascii"))
    for statement in (
        NAMED.format(name="voucher_codes_named", value=" code.value,"),
        NAMED.format(name="voucher_codes_without_values", value=""),
        BY_MONTH, STOCK, LATENCY,
    ):  # fmt: skip
        op.execute(statement)
    for view, (comment, columns) in VIEWS.items():
        _comment(f"VIEW mews.{view}", comment)
        for name, words in columns.items():
            _comment(f"COLUMN mews.{view}.{name}", words)
    _comment("FUNCTION mews.known_time_zone(text)", "The name of a time zone, or null where this server knows none so.")


def _comment(thing: str, words: str) -> None:
    op.execute(f"COMMENT ON {thing} IS '{words.replace(chr(39), chr(39) * 2)}'")


def downgrade() -> None:
    for view in reversed(VIEWS):
        op.execute(f"DROP VIEW mews.{view}")
    for trigger in ("count_added", "count_changed", "count_none", "count_removed"):
        op.execute(f"DROP TRIGGER {trigger} ON {CODES}")
    op.execute("DROP TRIGGER sign_target ON mews.voucher_targets")
    for function in ("sync.count_codes()", "sync.sign_target()", "mews.known_time_zone(text)"):
        op.execute(f"DROP FUNCTION {function}")
    op.drop_table("code_counts", schema="sync")
    op.drop_table("voucher_targets", schema="mews")
    for name in INDEXES:
        op.execute(f"DROP INDEX {name}")
