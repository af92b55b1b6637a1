"""The outbox: changes to voucher codes, queued by INSERT."""

from alembic import op
import sqlalchemy as sa

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIMESTAMP = sa.DateTime(timezone=True)

# Says in one sentence which rule a row breaks. The CHECK constraints stand behind it, for whoever disables triggers.
CHECK_INSERT = """
CREATE FUNCTION sync.check_outbox_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  refusal text;
  was_daemon text := coalesce(current_setting('voucher_sync.daemon', true), '');
  other mews.voucher_code_outbox;
  took_back boolean;
BEGIN
  IF NEW.idempotency_key IS NOT NULL THEN
    SELECT * INTO other FROM mews.voucher_code_outbox WHERE idempotency_key = NEW.idempotency_key;
    IF FOUND THEN
      IF NEW.operation = other.operation
         AND (NEW.operation <> 'add'
              OR (NEW.voucher_id, NEW.value) = (other.voucher_id, other.value)
                 AND (NEW.validity_start_utc, NEW.validity_end_utc)
                     IS NOT DISTINCT FROM (other.validity_start_utc, other.validity_end_utc))
         AND (NEW.operation <> 'delete' OR NEW.voucher_code_id IS NULL OR NEW.voucher_code_id = other.voucher_code_id)
         AND (NEW.operation <> 'delete' OR NEW.voucher_code_id IS NOT NULL
              OR (NEW.voucher_id, NEW.value) = (other.voucher_id, other.value)) THEN
        RETURN NULL;  -- an application's own retry: it is queued already
      END IF;
      RAISE EXCEPTION USING ERRCODE = 'unique_violation', MESSAGE = format(
        'idempotency_key: row %s has the same key and asks for something else; give each change a key of its own', other.id);
    END IF;
  END IF;

  refusal := CASE
    WHEN NEW.status <> 'pending' OR NEW.attempts <> 0 OR NEW.last_error IS NOT NULL OR NEW.request_id IS NOT NULL
      OR NEW.sent_at IS NOT NULL OR NEW.finished_at IS NOT NULL OR NEW.attempt_id IS NOT NULL
      OR NEW.released_at IS NOT NULL OR NEW.next_attempt_at IS NOT NULL OR NEW.connection IS NOT NULL
      OR NEW.enterprise_id IS NOT NULL OR NEW.first_sent_utc IS NOT NULL OR NEW.queued_by IS NOT NULL
      THEN 'insert only operation, voucher_id, value, validity_start_utc, validity_end_utc, voucher_code_id, '
           'idempotency_key, not_before and note: voucher-sync fills the other columns'
    WHEN NEW.operation IS NULL OR NEW.operation NOT IN ('add', 'delete')
      THEN 'operation: must be ''add'' or ''delete'''
    WHEN NEW.operation = 'add' AND (NEW.voucher_id IS NULL OR NEW.value IS NULL)
      THEN 'an add needs voucher_id and value'
    WHEN NEW.operation = 'add' AND NEW.voucher_code_id IS NOT NULL
      THEN 'voucher_code_id: an add gets its id from the API; leave it out'
    WHEN NEW.operation = 'delete' AND NEW.voucher_code_id IS NULL AND (NEW.voucher_id IS NULL OR NEW.value IS NULL)
      THEN 'a delete needs voucher_code_id, or voucher_id and value'
    WHEN NEW.operation = 'delete' AND NEW.voucher_code_id IS NOT NULL
      AND (NEW.voucher_id IS NOT NULL OR NEW.value IS NOT NULL)
      THEN 'a delete names its code by voucher_code_id, or by voucher_id and value, not by both'
    WHEN NEW.operation = 'delete' AND (NEW.validity_start_utc IS NOT NULL OR NEW.validity_end_utc IS NOT NULL)
      THEN 'validity_start_utc and validity_end_utc are for adds'
    WHEN char_length(NEW.value) NOT BETWEEN 1 AND 128
      THEN format('value: has %s characters, the API takes 1 to 128', char_length(NEW.value))
    WHEN NEW.validity_end_utc < NEW.validity_start_utc
      THEN 'validity_end_utc: lies before validity_start_utc'
    WHEN NOT (coalesce(NEW.validity_start_utc, '2000-01-01') >= '0001-01-01 00:00+00'
          AND coalesce(NEW.validity_end_utc, '2000-01-01') < '10000-01-01 00:00+00'
          AND coalesce(NEW.validity_start_utc, '2000-01-01') < '10000-01-01 00:00+00'
          AND coalesce(NEW.validity_end_utc, '2000-01-01') >= '0001-01-01 00:00+00')
      THEN 'validity_start_utc, validity_end_utc: must lie in the years 1 to 9999; null means no bound'
    WHEN NEW.not_before < '0001-01-01 00:00+00' OR NEW.not_before >= '10000-01-01 00:00+00'
      THEN 'not_before: must be an instant that comes'
  END;
  IF refusal IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = refusal;
  END IF;

  NEW.created_at := clock_timestamp();
  NEW.queued_by := session_user;
  NEW.next_attempt_at := greatest(now(), NEW.not_before);
  IF NEW.voucher_code_id IS NOT NULL THEN
    SELECT voucher_id, value INTO NEW.voucher_id, NEW.value FROM mews.voucher_codes WHERE id = NEW.voucher_code_id;
  END IF;
  SELECT voucher.connection, voucher.enterprise_id INTO NEW.connection, NEW.enterprise_id
    FROM mews.vouchers AS voucher WHERE voucher.id = NEW.voucher_id;

  IF NEW.operation = 'add' THEN
    SELECT * INTO other FROM mews.voucher_code_outbox
      WHERE operation = 'add' AND status IN ('pending', 'sending', 'uncertain', 'held')
        AND voucher_id = NEW.voucher_id AND value = NEW.value;
    IF FOUND THEN
      RAISE EXCEPTION USING ERRCODE = 'unique_violation',
        MESSAGE = format('the same add is queued already, as row %s', other.id),
        HINT = 'Wait until it is done, or cancel it first.';
    END IF;
  ELSE
    -- The row is locked: a claim of it passes over it, or has taken it already and is waited for.
    PERFORM set_config('voucher_sync.daemon', 'on', true);
    UPDATE mews.voucher_code_outbox AS unsent
      SET status = 'cancelled', finished_at = now(), last_error = format('taken back, before it was sent, by the delete in row %s', NEW.id)
      WHERE unsent.operation = 'add' AND unsent.status IN ('pending', 'held') AND unsent.attempts = 0
        AND unsent.voucher_id = NEW.voucher_id AND unsent.value = NEW.value AND NEW.voucher_code_id IS NULL
      RETURNING * INTO other;
    took_back := FOUND;
    PERFORM set_config('voucher_sync.daemon', was_daemon, true);
    IF took_back THEN
      NEW.status := 'cancelled';
      NEW.finished_at := now();
      NEW.last_error := format('took back the add in row %s before it was sent', other.id);
    END IF;
  END IF;
  RETURN NEW;
END $$
"""

CHECK_UPDATE = """
CREATE FUNCTION sync.check_outbox_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_daemon boolean := coalesce(current_setting('voucher_sync.daemon', true), '') = 'on'
    AND has_column_privilege(current_user, TG_RELID, 'attempt_id', 'UPDATE');
  move text := OLD.status || ' > ' || NEW.status;
  kept mews.voucher_code_outbox := NEW;
BEGIN
  IF OLD.status <> NEW.status AND NOT move = ANY (ARRAY[
    'pending > sending', 'pending > cancelled', 'pending > held',
    'sending > done', 'sending > pending', 'sending > uncertain', 'sending > failed',
    'uncertain > done', 'uncertain > pending', 'uncertain > failed',
    'held > pending', 'held > cancelled', 'failed > pending'])
  THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = format('row %s: a %s change cannot become %s', OLD.id, OLD.status, NEW.status);
  END IF;
  IF is_daemon THEN
    RETURN NEW;
  END IF;

  IF OLD.status <> NEW.status AND NOT move = ANY (ARRAY[
    'pending > cancelled', 'held > pending', 'held > cancelled', 'failed > pending'])
  THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = format('row %s: only voucher-sync itself makes a %s change %s', OLD.id, OLD.status, NEW.status),
      HINT = 'Users may cancel what is pending or held, release what is held, and retry what failed.';
  END IF;
  IF NOT pg_has_role(session_user, (SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'USAGE')
     AND NOT (NEW.status = 'cancelled' AND OLD.queued_by = session_user) THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
      MESSAGE = format('row %s: you may cancel what you queued yourself; ask the operator for anything else', OLD.id);
  END IF;
  kept.status := OLD.status;
  kept.not_before := OLD.not_before;
  kept.note := OLD.note;
  IF kept IS DISTINCT FROM OLD THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = format('row %s: only status, not_before and note may be changed', OLD.id),
      HINT = 'To change what is asked for, cancel the row and insert another one.';
  END IF;
  IF NEW.not_before IS DISTINCT FROM OLD.not_before THEN
    IF NEW.status NOT IN ('pending', 'held') OR NEW.not_before < '0001-01-01 00:00+00'
       OR NEW.not_before >= '10000-01-01 00:00+00' THEN
      RAISE EXCEPTION USING ERRCODE = 'check_violation',
        MESSAGE = format('row %s: not_before may be changed before the row is sent, to an instant that comes', OLD.id);
    END IF;
    NEW.next_attempt_at := greatest(now(), NEW.not_before);
  END IF;
  IF OLD.status <> NEW.status THEN
    IF NEW.status = 'cancelled' THEN
      NEW.finished_at := now();
    ELSE
      NEW.finished_at := NULL;
      NEW.next_attempt_at := greatest(now(), NEW.not_before);
      NEW.released_at := CASE WHEN OLD.status = 'held' THEN now() ELSE OLD.released_at END;
    END IF;
  END IF;
  IF NEW.status = 'pending' THEN
    PERFORM pg_notify('voucher_sync_outbox', '');
  END IF;
  RETURN NEW;
END $$
"""

WAKE = """
CREATE FUNCTION sync.wake_outbox() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify('voucher_sync_outbox', '');
  RETURN NULL;
END $$
"""

TRIGGERS = (
    "CREATE TRIGGER check_insert BEFORE INSERT ON mews.voucher_code_outbox "
    "FOR EACH ROW EXECUTE FUNCTION sync.check_outbox_insert()",
    "CREATE TRIGGER check_update BEFORE UPDATE ON mews.voucher_code_outbox "
    "FOR EACH ROW EXECUTE FUNCTION sync.check_outbox_update()",
    "CREATE TRIGGER wake AFTER INSERT ON mews.voucher_code_outbox "
    "FOR EACH STATEMENT EXECUTE FUNCTION sync.wake_outbox()",
)

# Roles are the whole server's, so they may stand already, and who migrates may not be allowed to make any.
ROLES = """
DO $$
DECLARE
  name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['mews_reader', 'mews_writer'] LOOP
    CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = name);
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', name);
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL;
      WHEN insufficient_privilege THEN
        RAISE NOTICE 'role % is not made: that takes CREATEROLE', name;
        RETURN;
    END;
  END LOOP;
  GRANT USAGE ON SCHEMA mews TO mews_reader, mews_writer;
  GRANT SELECT ON ALL TABLES IN SCHEMA mews TO mews_reader, mews_writer;
  ALTER DEFAULT PRIVILEGES IN SCHEMA mews GRANT SELECT ON TABLES TO mews_reader, mews_writer;
  GRANT INSERT (operation, voucher_id, value, validity_start_utc, validity_end_utc, voucher_code_id, idempotency_key,
                not_before, note), UPDATE (status) ON mews.voucher_code_outbox TO mews_writer;
END $$
"""
DROP_GRANTS = """
DO $$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT rolname FROM pg_roles WHERE rolname IN ('mews_reader', 'mews_writer') LOOP
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA mews FROM %I', name);
    EXECUTE format('REVOKE USAGE ON SCHEMA mews FROM %I', name);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA mews REVOKE SELECT ON TABLES FROM %I', name);
  END LOOP;
END $$
"""


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.UUID(), nullable=False, comment="Settles the rows that it claimed, and no others."),
        sa.Column("connection", sa.Text(), nullable=False, comment="The connection that sends it."),
        sa.Column(
            "started_at", TIMESTAMP, server_default=sa.text("now()"), nullable=False, comment="By this database's clock."
        ),
        sa.Column("server_utc", TIMESTAMP, nullable=False, comment="By the API's clock, and not later than its start."),
        sa.Column("until", TIMESTAMP, nullable=False, comment="After this its owner counts as dead."),
        sa.PrimaryKeyConstraint("id", name=op.f("attempts_pkey")),
        schema="sync",
        comment="Calls under way, and calls whose outcome is unknown.",
    )
    op.create_table(
        "voucher_code_outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="Number of the change."),
        sa.Column("operation", sa.Text(), nullable=False, comment="add, or delete."),
        sa.Column("voucher_id", sa.UUID(), comment="The voucher to which the code belongs."),
        sa.Column("value", sa.Text(), comment="The code that a customer enters, 1 to 128 characters."),
        sa.Column("validity_start_utc", TIMESTAMP, comment="First instant at which it can be used; null: no bound."),
        sa.Column("validity_end_utc", TIMESTAMP, comment="End of the time in which it can be used; null: no bound."),
        sa.Column("voucher_code_id", sa.UUID(), comment="The code to delete; after an add, the new code's id."),
        sa.Column("idempotency_key", sa.Text(), comment="The same key again queues nothing: for an application's retries."),
        sa.Column("not_before", TIMESTAMP, comment="Not sent earlier."),
        sa.Column("note", sa.Text(), comment="For people."),
        sa.Column(
            "status",
            sa.Text(),
            server_default="pending",
            nullable=False,
            comment="pending, sending, uncertain, held, done (it stands in mews.voucher_codes), failed or cancelled.",
        ),
        sa.Column(
            "attempts", sa.Integer(), server_default="0", nullable=False, comment="How often it was sent."
        ),
        sa.Column("next_attempt_at", TIMESTAMP, nullable=False, comment="When it is sent, or looked up, next."),
        sa.Column("last_error", sa.Text(), comment="Why it failed, waits or was cancelled, in the API's words where it said so."),
        sa.Column("request_id", sa.Text(), comment="The API's name of the last call, which the vendor's support asks for."),
        sa.Column(
            "created_at", TIMESTAMP, server_default=sa.text("now()"), nullable=False, comment="When it was queued."
        ),
        sa.Column("sent_at", TIMESTAMP, comment="When it was last sent."),
        sa.Column("finished_at", TIMESTAMP, comment="When it became done, failed or cancelled."),
        sa.Column("queued_by", sa.Text(), comment="The database user who queued it."),
        sa.Column("connection", sa.Text(), comment="The connection that sends it; null until its voucher is known."),
        sa.Column("enterprise_id", sa.UUID(), comment="The hotel that it concerns."),
        sa.Column("attempt_id", sa.UUID(), comment="The attempt that alone may settle it."),
        sa.Column("first_sent_utc", TIMESTAMP, comment="When it was first sent, by the API's clock."),
        sa.Column("released_at", TIMESTAMP, comment="When somebody released it from being held."),
        sa.CheckConstraint("operation IN ('add', 'delete')", name=op.f("voucher_code_outbox_operation_check")),
        sa.CheckConstraint(
            "status IN ('pending', 'sending', 'uncertain', 'held', 'done', 'failed', 'cancelled')",
            name=op.f("voucher_code_outbox_status_check"),
        ),
        sa.CheckConstraint(
            "operation <> 'add' OR (voucher_id IS NOT NULL AND value IS NOT NULL)",
            name=op.f("voucher_code_outbox_add_needs_voucher_and_value_check"),
        ),
        sa.CheckConstraint(
            "operation <> 'delete' OR voucher_code_id IS NOT NULL OR (voucher_id IS NOT NULL AND value IS NOT NULL)",
            name=op.f("voucher_code_outbox_delete_needs_a_code_check"),
        ),
        # An outbox row of a mirrored code may hold whatever value the API has; only an add's goes to the API.
        sa.CheckConstraint(
            "operation <> 'add' OR char_length(value) BETWEEN 1 AND 128",
            name=op.f("voucher_code_outbox_value_has_1_to_128_characters_check"),
        ),
        sa.CheckConstraint(
            "validity_end_utc >= validity_start_utc", name=op.f("voucher_code_outbox_ends_after_start_check")
        ),
        sa.CheckConstraint(
            "(status IN ('done', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("voucher_code_outbox_finished_check"),
        ),
        sa.CheckConstraint(
            "status NOT IN ('sending', 'uncertain') OR (attempt_id IS NOT NULL AND connection IS NOT NULL)",
            name=op.f("voucher_code_outbox_claimed_check"),
        ),
        sa.CheckConstraint(
            "operation <> 'add' OR status <> 'done' OR voucher_code_id IS NOT NULL",
            name=op.f("voucher_code_outbox_added_code_has_id_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("voucher_code_outbox_pkey")),
        sa.UniqueConstraint("idempotency_key", name=op.f("voucher_code_outbox_idempotency_key_key")),
        schema="mews",
        comment="Changes to voucher codes, queued by INSERT and carried out by voucher-sync.",
    )
    op.create_table(
        "voucher_code_outbox_attempts",
        sa.Column("outbox_id", sa.BigInteger(), nullable=False, comment="The change."),
        sa.Column("attempt_id", sa.UUID(), nullable=False, comment="The call, shared by all changes that went with it."),
        sa.Column("sent_at", TIMESTAMP, nullable=False, comment="When it was sent."),
        sa.Column(
            "settled_at", TIMESTAMP, server_default=sa.text("now()"), nullable=False, comment="When its outcome was noted."
        ),
        sa.Column("outcome", sa.Text(), nullable=False, comment="done, or what the outcome proves, or how it was lost."),
        sa.Column("http_status", sa.Integer(), comment="HTTP status; null without an answer."),
        sa.Column("message", sa.Text(), comment="What went wrong, in the API's words where it said so."),
        sa.Column("request_id", sa.Text(), comment="The API's name of the call."),
        sa.ForeignKeyConstraint(
            ["outbox_id"],
            ["mews.voucher_code_outbox.id"],
            name=op.f("voucher_code_outbox_attempts_outbox_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("outbox_id", "attempt_id", name=op.f("voucher_code_outbox_attempts_pkey")),
        schema="mews",
        comment="One row for each time that a change was sent.",
    )
    op.create_index(
        "voucher_code_outbox_due_idx",
        "voucher_code_outbox",
        ["connection", "operation", "enterprise_id", "next_attempt_at", "id"],
        schema="mews",
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        op.f("voucher_code_outbox_voucher_id_value_id_idx"),
        "voucher_code_outbox",
        ["voucher_id", "value", "id"],
        schema="mews",
    )
    op.create_index(
        "voucher_code_outbox_same_add_queued_idx",
        "voucher_code_outbox",
        ["voucher_id", "value"],
        unique=True,
        schema="mews",
        postgresql_where=sa.text("operation = 'add' AND status IN ('pending', 'sending', 'uncertain', 'held')"),
    )
    op.create_index(
        "voucher_code_outbox_attempt_id_idx",
        "voucher_code_outbox",
        ["attempt_id"],
        schema="mews",
        postgresql_where=sa.text("status IN ('sending', 'uncertain')"),
    )
    op.create_index(
        "voucher_code_outbox_deletes_idx",
        "voucher_code_outbox",
        ["connection", "created_at"],
        schema="mews",
        postgresql_where=sa.text("operation = 'delete'"),
    )
    op.create_index(
        "voucher_code_outbox_finished_at_idx",
        "voucher_code_outbox",
        ["finished_at"],
        schema="mews",
        postgresql_where=sa.text("finished_at IS NOT NULL"),
    )
    for statement in (CHECK_INSERT, CHECK_UPDATE, WAKE, *TRIGGERS, ROLES):
        op.execute(statement)


def downgrade() -> None:
    op.execute(DROP_GRANTS)
    op.drop_table("voucher_code_outbox_attempts", schema="mews")
    op.drop_table("voucher_code_outbox", schema="mews")
    op.drop_table("attempts", schema="sync")
    for function in ("check_outbox_insert", "check_outbox_update", "wake_outbox"):
        op.execute(f"DROP FUNCTION sync.{function}()")
