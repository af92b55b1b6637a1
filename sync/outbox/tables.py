"""The outbox's tables, with their meaning."""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    FromClause,
    Identity,
    Index,
    Integer,
    Table,
    Text,
    func,
    or_,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

from sync.outbox.rules import HeldBecause, Operation, Row, Status, Uncertainty
from sync.postgres.metadata import BYTEWISE, TIMESTAMP, metadata

UNFINISHED = (Status.PENDING, Status.SENDING, Status.UNCERTAIN, Status.HELD)
IS_UNFINISHED = "status IN ('pending', 'sending', 'uncertain', 'held')"
"""The same in the words of the index that finds them; a statement has to say it so too."""
IS_IN_TURN = text("starts_with(status, 'pending')")
"""Said so, a row that is pending is found by no other index, whatever there is of statistics."""
IS_NEXT = text("left(status, 7) = 'pending'")
"""The same once more: it is found by the index that a look goes through."""
IS_WAITING = text("after_id IS NOT NULL AND right(status, 7) = 'pending'")
"""And once more, of rows that may wait for another."""
PENDING_CONNECTIONS = """
pending AS (
  (SELECT row.connection FROM mews.voucher_code_outbox AS row
   WHERE left(row.status, 7) = 'pending' AND row.connection IS NOT NULL
   ORDER BY row.connection, row.next_attempt_at, row.id LIMIT 1)
UNION ALL
  SELECT (
    SELECT row.connection FROM mews.voucher_code_outbox AS row
    WHERE left(row.status, 7) = 'pending' AND row.connection > pending.connection
    ORDER BY row.connection, row.next_attempt_at, row.id LIMIT 1
  ) FROM pending WHERE pending.connection IS NOT NULL
)
"""
"""The connections that have pending rows, and null, for WITH RECURSIVE: each step finds the next one in an index, so
that a million rows of one cost one step."""
UNASSIGNED = """
stray AS (
  (SELECT row.voucher_id FROM mews.voucher_code_outbox AS row
   WHERE row.connection IS NULL AND row.status IN ('pending', 'held') AND row.voucher_id IS NOT NULL
   ORDER BY row.voucher_id LIMIT 1)
UNION ALL
  SELECT (
    SELECT row.voucher_id FROM mews.voucher_code_outbox AS row
    WHERE row.connection IS NULL AND row.status IN ('pending', 'held') AND row.voucher_id > stray.voucher_id
    ORDER BY row.voucher_id LIMIT 1
  ) FROM stray WHERE stray.voucher_id IS NOT NULL
), unassigned AS (
  SELECT row.* FROM stray CROSS JOIN LATERAL (
    SELECT one.id, one.status, one.voucher_id, one.voucher_code_id, one.created_at, one.next_attempt_at
    FROM mews.voucher_code_outbox AS one
    WHERE one.connection IS NULL AND one.status IN ('pending', 'held') AND one.voucher_id = stray.voucher_id OFFSET 0
  ) AS row
  WHERE NOT EXISTS (SELECT FROM mews.vouchers AS known WHERE known.id = stray.voucher_id OFFSET 0)
UNION ALL
  SELECT row.* FROM (
    SELECT one.id, one.status, one.voucher_id, one.voucher_code_id, one.created_at, one.next_attempt_at
    FROM mews.voucher_code_outbox AS one
    WHERE one.connection IS NULL AND one.status IN ('pending', 'held') AND one.voucher_id IS NULL OFFSET 0
  ) AS row
)
"""
"""For WITH RECURSIVE: the vouchers of rows that have no connection, and null (`stray`), and those rows that are of no
voucher, or of one that nobody mirrors (`unassigned`). A million rows of a voucher that is known are one step. By OFFSET
each is found by the one index of these, whatever is known of the table: by another one they would all be read."""
QUEUER = text("coalesce(queued_by, '')")
"""Who queued it; rows from before the triggers, or past them, count as one user's."""

PUT_OFF_UNTIL = datetime(9999, 12, 31, tzinfo=UTC)
"""`next_attempt_at` of a row that waits for another one: no release finds it due before, and it is the last day that
Python can tell. The outbox's triggers and `future_rows` have the same."""

TRIGGERS = ("check_insert", "check_update", "fill_in_state", "note_emptied", "wake")
"""Of the outbox, as `triggers.sql` names them."""


def _one_of(column: str, values: type[Operation | Status | Uncertainty | HeldBecause]) -> str:
    return f"{column} IN ({', '.join(repr(value.value) for value in values)})"


attempts = Table(
    "attempts",
    metadata,
    Column("id", UUID, primary_key=True, comment="Only who knows it completes the rows that it claimed."),
    Column("connection", Text, nullable=False, comment="The connection that sends it."),
    Column("started_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="By this database's clock."),
    Column("server_utc", TIMESTAMP, nullable=False, comment="By the API's clock, and not later than its start."),
    Column(
        "until",
        TIMESTAMP,
        nullable=False,
        comment="Moves with each sign of life of whoever sends it; less started_at: how long each is good for.",
    ),
    schema="sync",
    comment="Calls under way, and calls whose outcome is unknown.",
)

outbox = Table(
    "voucher_code_outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True, comment="Number of the change."),
    Column("operation", Text, nullable=False, comment="add, or delete."),
    Column("voucher_id", UUID, comment="The voucher to which the code belongs."),
    Column("value", Text, comment="The code that a customer enters, 1 to 128 characters."),
    Column("validity_start_utc", TIMESTAMP, comment="First instant at which it can be used; null: no bound."),
    Column("validity_end_utc", TIMESTAMP, comment="End of the time in which it can be used; null: no bound."),
    Column("voucher_code_id", UUID, comment="The code to delete; after an add, the new code's id."),
    Column(
        "idempotency_key", Text,
        comment="The same key of the same user again queues nothing: for an application's retries.",
    ),
    Column("not_before", TIMESTAMP, comment="Not sent earlier."),
    Column("note", Text, comment="For people."),
    Column(
        "status",
        Text,
        nullable=False,
        server_default="pending",
        comment="pending, sending, uncertain, held, done (it stands in mews.voucher_codes), failed or cancelled.",
    ),
    Column("attempts", Integer, nullable=False, server_default="0", comment="How often it was sent."),
    Column("next_attempt_at", TIMESTAMP, nullable=False, comment="When it is sent, or looked up, next."),
    Column(
        "last_error", Text, comment="Why it failed, waits or was cancelled, in the API's words where it said so."
    ),
    Column("request_id", Text, comment="The API's name of the last call, which the vendor's support asks for."),
    Column("created_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When it was queued."),
    Column("sent_at", TIMESTAMP, comment="When it was last sent."),
    Column("finished_at", TIMESTAMP, comment="When it became done, failed or cancelled."),
    Column("queued_by", Text, comment="The database user who queued it."),
    Column("connection", Text, comment="The connection that sends it; null until its voucher is known."),
    Column("enterprise_id", UUID, comment="The hotel that it concerns."),
    Column("attempt_id", UUID, comment="The attempt that alone may complete it."),
    Column("first_sent_utc", TIMESTAMP, comment="When it was first sent, by the API's clock."),
    Column(
        "unknown_since_utc", TIMESTAMP,
        comment="When it was first sent without an answer to rely on, by the API's clock; null: it never was.",
    ),
    Column("target_code_id", UUID, comment="The code that a delete was last sent for."),
    Column("released_at", TIMESTAMP, comment="When somebody released it from being held."),
    Column(
        "priority", Integer, nullable=False, server_default="0",
        comment="What has a higher one goes first; the owner of the outbox gives it, and operators may change it.",
    ),
    Column("first_sent_at", TIMESTAMP, comment="When it was first sent, by this database's clock."),
    Column(
        "uncertain_because", Text,
        comment="Why it is uncertain: unknown, expired, unwritten, unlisted or refused; null: it is not.",
    ),
    Column(
        "blocked_alone", Integer, nullable=False, server_default="0",
        comment="How often something on the way to the API blocked it alone since it last failed.",
    ),
    Column(
        "singled_out", Integer, nullable=False, server_default="0",
        comment="At how many of these times its neighbours went through.",
    ),
    Column(
        "after_id", BigInteger, ForeignKey("mews.voucher_code_outbox.id"),
        comment="The row that must be done before this one is sent; null: none.",
    ),
    Column(
        "held_because", Text,
        comment="Why it is held: too_many_deletes, or before_a_gap (queued before the database was restored, copied or "
        "lost commits); null: it is not.",
    ),
    Column(
        "took_back_id", BigInteger,
        comment="The add that this delete took back before that was sent; nothing else was left to do.",
    ),
    Column("changed_by", Text, comment="Who last changed it by hand; null: nobody did."),
    Column("changed_at", TIMESTAMP, comment="When that was."),
    Column("changed_how", Text, comment="How: released, retried, cancelled, edited, or taken back by a delete."),
    Column("erased_at", TIMESTAMP, comment="When the code's text was erased; value says so in its place."),
    Column(
        "held_by_gap", TIMESTAMP,
        comment="When the loss or copy was noticed for which it was last held before_a_gap: each holds it once.",
    ),
    CheckConstraint(_one_of("operation", Operation), name="operation"),
    CheckConstraint(_one_of("status", Status), name="status"),
    CheckConstraint(
        "operation <> 'add' OR (voucher_id IS NOT NULL AND value IS NOT NULL)", name="add_needs_voucher_and_value"
    ),
    CheckConstraint(
        "operation <> 'delete' OR voucher_code_id IS NOT NULL OR (voucher_id IS NOT NULL AND value IS NOT NULL)",
        name="delete_needs_a_code",
    ),
    CheckConstraint("operation <> 'add' OR char_length(value) BETWEEN 1 AND 128", name="value_has_1_to_128_characters"),
    CheckConstraint("validity_end_utc >= validity_start_utc", name="ends_after_start"),
    CheckConstraint("(status IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="finished"),
    CheckConstraint(
        "status NOT IN ('sending', 'uncertain') OR (attempt_id IS NOT NULL AND connection IS NOT NULL)", name="claimed"
    ),
    CheckConstraint(
        "operation <> 'add' OR status <> 'done' OR voucher_code_id IS NOT NULL", name="added_code_has_id"
    ),
    CheckConstraint(
        "attempts > 0 OR (unknown_since_utc IS NULL AND target_code_id IS NULL)", name="only_sent_rows_have_a_target"
    ),
    CheckConstraint("attempts > 0 OR first_sent_at IS NULL", name="only_sent_rows_were_first_sent"),
    CheckConstraint(_one_of("uncertain_because", Uncertainty), name="uncertain_because"),
    CheckConstraint("(status = 'uncertain') = (uncertain_because IS NOT NULL)", name="uncertain_rows_say_why"),
    CheckConstraint(_one_of("held_because", HeldBecause), name="held_because"),
    CheckConstraint("(status = 'held') = (held_because IS NOT NULL)", name="held_rows_say_why"),
    CheckConstraint("singled_out BETWEEN 0 AND blocked_alone", name="singled_out_when_blocked"),
    CheckConstraint("blocked_alone <= attempts", name="blocked_when_sent"),
    CheckConstraint("after_id < id", name="after_an_earlier_row"),
    CheckConstraint("erased_at IS NULL OR status IN ('done', 'failed', 'cancelled')", name="erased_rows_rest"),
    Index(
        "voucher_code_outbox_due_idx", "connection", "operation", "enterprise_id", "next_attempt_at", "id",
        postgresql_where=text("status = 'pending'"),
    ),
    Index(
        "voucher_code_outbox_turns_idx",
        "connection", "operation", "enterprise_id", "priority", QUEUER, "next_attempt_at", "id",
        postgresql_where=IS_IN_TURN,
    ),
    Index("voucher_code_outbox_next_idx", "connection", "next_attempt_at", "id", postgresql_where=IS_NEXT),
    Index(
        "voucher_code_outbox_queued_by_key", "queued_by", "idempotency_key", unique=True,
        postgresql_ops={"queued_by": BYTEWISE, "idempotency_key": BYTEWISE},
    ),
    Index(None, "voucher_id", "value", "id"),
    Index(
        "voucher_code_outbox_same_add_queued_idx", "voucher_id", "value", unique=True,
        postgresql_ops={"value": BYTEWISE}, postgresql_where=text(f"operation = 'add' AND {IS_UNFINISHED}"),
    ),
    Index(
        "voucher_code_outbox_attempt_id_idx", "attempt_id",
        postgresql_where=text("status IN ('sending', 'uncertain')"),
    ),
    Index(
        "voucher_code_outbox_deletes_idx", "connection", "created_at", postgresql_where=text("operation = 'delete'")
    ),
    Index(
        "voucher_code_outbox_stray_idx", "voucher_id",
        postgresql_where=text("connection IS NULL AND status IN ('pending', 'held')"),
    ),
    Index(
        "voucher_code_outbox_unreleased_idx", "connection",
        postgresql_where=text("operation = 'delete' AND status = 'pending' AND released_at IS NULL"),
    ),
    Index("voucher_code_outbox_after_id_idx", "after_id", postgresql_where=text("after_id IS NOT NULL")),
    Index(
        "voucher_code_outbox_waiting_idx", "after_id", "id",
        postgresql_where=IS_WAITING,
    ),
    Index(
        "voucher_code_outbox_attention_idx", "connection", "status", "finished_at",
        postgresql_where=text("status IN ('held', 'failed')"),
    ),
    Index("voucher_code_outbox_finished_at_idx", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    schema="mews",
    comment="Changes to voucher codes, queued by INSERT and carried out by voucher-sync.",
)  # fmt: skip

ROW_COLUMNS = [column for column in outbox.c if column.name in Row.__slots__]
"""What a `Row` has of the table."""

outbox_attempts = Table(
    "voucher_code_outbox_attempts",
    metadata,
    Column(
        "outbox_id", BigInteger, ForeignKey(outbox.c.id, ondelete="CASCADE"), primary_key=True, comment="The change."
    ),
    Column("attempt_id", UUID, primary_key=True, comment="The call, shared by all changes that went with it."),
    Column("sent_at", TIMESTAMP, nullable=False, comment="When it was sent."),
    Column("settled_at", TIMESTAMP, nullable=False, server_default=func.now(), comment="When its outcome was noted."),
    Column("outcome", Text, nullable=False, comment="done, or what the outcome proves, or how it was lost."),
    Column("http_status", Integer, comment="HTTP status; null without an answer."),
    Column("message", Text, comment="What went wrong, in the API's words where it said so."),
    Column("request_id", Text, comment="The API's name of the call."),
    schema="mews",
    comment="One row for each time that a change was sent.",
)


def is_fulfilled(row: FromClause) -> ColumnElement[bool]:
    """Whether what a row of the outbox asks for is done. A delete that took back an add has nothing left to do."""
    return or_(row.c.status == Status.DONE, row.c.took_back_id.is_not(None))
