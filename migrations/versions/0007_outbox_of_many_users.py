"""An outbox for many users and any tool: keys of their own, turns, priorities, bounds, and look-ups without statistics."""

from alembic import op
import sqlalchemy as sa

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# The functions run in the sessions of users, so they rely on none of their settings, and on no name that a column or a
# table of a user's could take: columns are written with their table, and a bare word is a variable.
#
# Without statistics, or with those of an empty outbox, a plan reads the whole table for each row, and is kept for the
# session: 20,000 rows took 29 s. So every look-up here has an index that holds its condition, and may use no other way.
QUEUE_CHANGE = """
CREATE FUNCTION sync.queue_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_indexscan = on AS $$
#variable_conflict use_variable
DECLARE
  refusal text;
  was_daemon text := coalesce(current_setting('voucher_sync.daemon', true), '');
  is_operator boolean := session_user = current_user OR pg_has_role(session_user, current_user, 'MEMBER');
  is_known boolean := true;
  last_id bigint;
  other_id bigint;
  other_is_same boolean;
  other_was_cancelled boolean;
BEGIN
  IF NEW.idempotency_key IS NOT NULL THEN
    SELECT other.id,
           other.status = 'cancelled' AND NOT (other.operation = 'delete' AND starts_with(coalesce(other.last_error, ''), 'took back')),
           NEW.operation = other.operation
           AND CASE WHEN NEW.operation = 'delete' AND NEW.voucher_code_id IS NOT NULL
             THEN NEW.voucher_code_id = other.voucher_code_id
             ELSE (NEW.voucher_id, NEW.value) = (other.voucher_id, other.value)
             END
           AND (NEW.operation <> 'add' OR (NEW.validity_start_utc, NEW.validity_end_utc)
                                          IS NOT DISTINCT FROM (other.validity_start_utc, other.validity_end_utc))
      INTO other_id, other_was_cancelled, other_is_same
      FROM mews.voucher_code_outbox AS other
      WHERE other.queued_by = session_user AND other.idempotency_key = NEW.idempotency_key;
    IF other_is_same AND NOT coalesce(other_was_cancelled, false) THEN
      RETURN NULL;  -- an application's own retry: it is queued already
    ELSIF other_id IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'unique_violation', MESSAGE = format(
        CASE WHEN other_is_same THEN 'idempotency_key: row %s had the same key and was cancelled; to ask for it again, '
                                     'give it another key'
             ELSE 'idempotency_key: row %s has the same key and asks for something else; give each change a key of its own'
             END, other_id);
    END IF;
  END IF;

  -- Mappers send every column that they know; what they leave open, and when they think it was made, counts for nothing.
  NEW.id := coalesce(NEW.id, nextval('mews.voucher_code_outbox_id_seq'));
  BEGIN
    last_id := currval('mews.voucher_code_outbox_id_seq');
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    last_id := 0;  -- none was given to this session yet
  END;
  -- The numbers are the order of what is done to a code, and nobody may go before others.
  IF NEW.id BETWEEN 1 AND last_id - 1 AND NOT is_operator THEN
    NEW.id := nextval('mews.voucher_code_outbox_id_seq');
    last_id := NEW.id;
  END IF;
  NEW.status := coalesce(NEW.status, 'pending');
  NEW.attempts := coalesce(NEW.attempts, 0);
  NEW.priority := coalesce(NEW.priority, 0);
  refusal := CASE
    WHEN NEW.status <> 'pending' OR NEW.attempts <> 0 OR NEW.last_error IS NOT NULL OR NEW.request_id IS NOT NULL
      OR NEW.sent_at IS NOT NULL OR NEW.finished_at IS NOT NULL OR NEW.attempt_id IS NOT NULL
      OR NEW.released_at IS NOT NULL OR NEW.next_attempt_at IS NOT NULL OR NEW.connection IS NOT NULL
      OR NEW.enterprise_id IS NOT NULL OR NEW.first_sent_utc IS NOT NULL OR NEW.unknown_since_utc IS NOT NULL
      OR NEW.target_code_id IS NOT NULL OR NEW.queued_by IS NOT NULL
      THEN 'insert only operation, voucher_id, value, validity_start_utc, validity_end_utc, voucher_code_id, '
           'idempotency_key, not_before and note: voucher-sync fills the other columns'
    WHEN NEW.id > last_id OR NEW.id < 1
      THEN 'id: the database numbers the rows; leave it out, or give DEFAULT'
    WHEN NEW.priority <> 0 AND NOT is_operator
      THEN 'priority: is for the operator to give; leave it out'
    WHEN NEW.operation IS NULL OR NEW.operation NOT IN ('add', 'delete')
      THEN 'operation: must be ''add'' or ''delete'', in small letters'
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
    WHEN NEW.idempotency_key = ''
      THEN 'idempotency_key: is empty, so that every later change with an empty one would queue nothing; '
           'leave it out, or give each change a key of its own'
    WHEN char_length(NEW.idempotency_key) > 255
      THEN format('idempotency_key: has %s characters, 255 are the most', char_length(NEW.idempotency_key))
    WHEN char_length(NEW.note) > 10000
      THEN format('note: has %s characters, 10000 are the most', char_length(NEW.note))
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
    SELECT code.voucher_id, code.value INTO NEW.voucher_id, NEW.value
      FROM mews.voucher_codes AS code WHERE code.id = NEW.voucher_code_id;
    is_known := FOUND;
  END IF;
  SELECT voucher.connection, voucher.enterprise_id INTO NEW.connection, NEW.enterprise_id
    FROM mews.vouchers AS voucher WHERE voucher.id = NEW.voucher_id;

  IF NEW.operation = 'delete' AND NEW.voucher_code_id IS NULL THEN
    is_known := EXISTS (
      SELECT FROM mews.voucher_codes AS code
      WHERE code.voucher_id = NEW.voucher_id AND code.value = NEW.value AND code.is_active);
    -- Who may not cancel an add takes none back either: then this goes after it. The row is locked: a claim of it passes
    -- over it, or has taken it already and is waited for.
    PERFORM set_config('voucher_sync.daemon', 'on', true);
    UPDATE mews.voucher_code_outbox AS unsent
      SET status = 'cancelled', finished_at = now(),
          last_error = format('taken back, before it was sent, by the delete in row %s', NEW.id)
      WHERE unsent.operation = 'add' AND unsent.status IN ('pending', 'held') AND unsent.attempts = 0
        AND unsent.voucher_id = NEW.voucher_id AND unsent.value = NEW.value
        AND (is_operator OR unsent.queued_by = session_user)
      RETURNING unsent.id INTO other_id;
    IF NOT FOUND THEN
      other_id := NULL;
    END IF;
    PERFORM set_config('voucher_sync.daemon', was_daemon, true);
    -- An earlier delete that is still to be made is for the code that stands, and leaves this one nothing. The index of
    -- a voucher's rows finds it; that of all deletes would be read from end to end.
    IF other_id IS NOT NULL AND NOT (is_known AND NOT EXISTS (
      SELECT FROM mews.voucher_code_outbox AS earlier
      WHERE earlier.voucher_id = NEW.voucher_id AND earlier.value = NEW.value AND earlier.operation || '' = 'delete'
        AND earlier.status IN ('pending', 'sending', 'uncertain', 'held')))
    THEN
      NEW.status := 'cancelled';
      NEW.finished_at := now();
      NEW.last_error := format('took back the add in row %s before it was sent', other_id);
    ELSIF NOT is_known THEN
      is_known := EXISTS (
        SELECT FROM mews.voucher_code_outbox AS earlier
        WHERE earlier.voucher_id = NEW.voucher_id AND earlier.value = NEW.value AND earlier.operation = 'add'
          AND earlier.status IN ('pending', 'sending', 'uncertain', 'held'));
    END IF;
  END IF;
  IF NOT is_known AND NEW.status = 'pending' THEN
    NEW.last_error := 'the mirror shows no such code: it waits for the next pull, and fails if that finds none';
  END IF;
  RETURN NEW;
END $$
"""

# Columns that a user has added are not looked at, and a generated one has no value yet.
CHANGE_ROW = """
CREATE FUNCTION sync.change_row() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  is_daemon boolean := coalesce(current_setting('voucher_sync.daemon', true), '') = 'on'
    AND has_table_privilege(current_user, TG_RELID, 'DELETE');
  move text := OLD.status || ' > ' || NEW.status;
BEGIN
  IF OLD.status <> NEW.status AND NOT move = ANY (ARRAY[
    'pending > sending', 'pending > cancelled', 'pending > held',
    'sending > done', 'sending > pending', 'sending > uncertain', 'sending > failed',
    'uncertain > done', 'uncertain > pending', 'uncertain > failed',
    'held > pending', 'held > cancelled', 'failed > pending'])
  THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = format('row %s: a %s change cannot become %s', OLD.id, OLD.status, left(NEW.status, 20));
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
  IF ROW(NEW.id, NEW.operation, NEW.voucher_id, NEW.value, NEW.validity_start_utc, NEW.validity_end_utc,
         NEW.voucher_code_id, NEW.idempotency_key, NEW.attempts, NEW.next_attempt_at, NEW.last_error, NEW.request_id,
         NEW.created_at, NEW.sent_at, NEW.finished_at, NEW.queued_by, NEW.connection, NEW.enterprise_id, NEW.attempt_id,
         NEW.first_sent_utc, NEW.unknown_since_utc, NEW.target_code_id, NEW.released_at)
     IS DISTINCT FROM
     ROW(OLD.id, OLD.operation, OLD.voucher_id, OLD.value, OLD.validity_start_utc, OLD.validity_end_utc,
         OLD.voucher_code_id, OLD.idempotency_key, OLD.attempts, OLD.next_attempt_at, OLD.last_error, OLD.request_id,
         OLD.created_at, OLD.sent_at, OLD.finished_at, OLD.queued_by, OLD.connection, OLD.enterprise_id, OLD.attempt_id,
         OLD.first_sent_utc, OLD.unknown_since_utc, OLD.target_code_id, OLD.released_at)
  THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = format('row %s: only status, not_before, note and priority may be changed', OLD.id),
      HINT = 'To change what is asked for, cancel the row and insert another one. If you sent every column back as you '
             'read it, voucher-sync has changed the row meanwhile: read it again.';
  END IF;
  IF ROW(NEW.status, NEW.not_before, NEW.note, NEW.priority)
     IS NOT DISTINCT FROM ROW(OLD.status, OLD.not_before, OLD.note, OLD.priority)
  THEN
    RETURN NEW;
  END IF;
  IF NOT pg_has_role(session_user, (SELECT relation.relowner FROM pg_class AS relation WHERE relation.oid = TG_RELID), 'MEMBER')
     AND NOT (OLD.queued_by = session_user AND NEW.status = 'cancelled' AND NEW.priority = OLD.priority)
  THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
      MESSAGE = format('row %s: you may cancel what you queued yourself; ask the operator for anything else', OLD.id);
  END IF;
  IF char_length(NEW.note) > 10000 AND NEW.note IS DISTINCT FROM OLD.note THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = format('row %s: note: has %s characters, 10000 are the most', OLD.id, char_length(NEW.note));
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
  IF NEW.status = 'pending' AND coalesce(current_setting('voucher_sync.notify', true), '') <> 'off'
     AND pg_notification_queue_usage() < 0.5
  THEN
    PERFORM pg_notify('voucher_sync_outbox', '');
  END IF;
  RETURN NEW;
END $$
"""

# A word that cannot be sent must not cost the change: somebody who listens and never reads fills the queue for all, and
# a transaction that has notified cannot be prepared (XA, two-phase commit), so those switch it off for themselves. The
# daemon looks every few seconds anyway.
TELL_QUEUED = """
CREATE FUNCTION sync.tell_queued() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  expired record;
  unknown record;
BEGIN
  SELECT count(*) AS number, min(queued.id) AS first_id INTO expired FROM queued
    WHERE queued.operation = 'add' AND queued.validity_end_utc <= now();
  IF expired.number > 0 THEN
    RAISE WARNING 'validity_end_utc has passed: % of the queued adds can never be used, the first of them in row %',
      expired.number, expired.first_id;
  END IF;
  SELECT count(*) AS number, min(queued.id) AS first_id INTO unknown FROM queued
    WHERE queued.operation = 'delete' AND queued.status = 'pending' AND queued.last_error IS NOT NULL;
  IF unknown.number > 0 THEN
    RAISE WARNING 'the mirror shows no code for % of the queued deletes, the first of them in row %: they wait for the '
      'next pull, and fail if it finds none', unknown.number, unknown.first_id;
  END IF;
  IF coalesce(current_setting('voucher_sync.notify', true), '') <> 'off' AND pg_notification_queue_usage() < 0.5 THEN
    PERFORM pg_notify('voucher_sync_outbox', '');
  END IF;
  RETURN NULL;
END $$
"""

# The functions before these stay for the way back, without a trigger.
TRIGGERS = (
    "CREATE OR REPLACE TRIGGER check_insert BEFORE INSERT ON mews.voucher_code_outbox "
    "FOR EACH ROW EXECUTE FUNCTION sync.queue_change()",
    "CREATE OR REPLACE TRIGGER check_update BEFORE UPDATE ON mews.voucher_code_outbox "
    "FOR EACH ROW EXECUTE FUNCTION sync.change_row()",
    "CREATE OR REPLACE TRIGGER wake AFTER INSERT ON mews.voucher_code_outbox "
    "REFERENCING NEW TABLE AS queued FOR EACH STATEMENT EXECUTE FUNCTION sync.tell_queued()",
    "DROP TRIGGER complete_insert ON mews.voucher_code_outbox",
)
TRIGGERS_BEFORE = (
    "CREATE OR REPLACE TRIGGER check_insert BEFORE INSERT ON mews.voucher_code_outbox "
    "FOR EACH ROW EXECUTE FUNCTION sync.check_outbox_insert()",
    "CREATE OR REPLACE TRIGGER check_update BEFORE UPDATE ON mews.voucher_code_outbox "
    "FOR EACH ROW EXECUTE FUNCTION sync.check_outbox_update()",
    "CREATE OR REPLACE TRIGGER wake AFTER INSERT ON mews.voucher_code_outbox "
    "FOR EACH STATEMENT EXECUTE FUNCTION sync.wake_outbox()",
    "CREATE TRIGGER complete_insert BEFORE INSERT ON mews.voucher_code_outbox FOR EACH ROW "
    "WHEN (NEW.status = 'cancelled' OR NEW.idempotency_key = '') EXECUTE FUNCTION sync.complete_outbox_insert()",
)

# Mappers send every column that they know, and read the new number from its sequence; the triggers see to it that
# nothing else comes of it than before. Columns that a user adds are for who owns the table to grant.
GRANTS = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_writer') THEN
    GRANT INSERT (id, operation, voucher_id, value, validity_start_utc, validity_end_utc, voucher_code_id,
                  idempotency_key, not_before, note, status, attempts, next_attempt_at, last_error, request_id,
                  created_at, sent_at, finished_at, queued_by, connection, enterprise_id, attempt_id, first_sent_utc,
                  unknown_since_utc, target_code_id, released_at, priority),
          UPDATE (operation, voucher_id, value, validity_start_utc, validity_end_utc, voucher_code_id,
                  idempotency_key, not_before, note, status, attempts, next_attempt_at, last_error, request_id,
                  created_at, sent_at, finished_at, queued_by, connection, enterprise_id, attempt_id, first_sent_utc,
                  unknown_since_utc, target_code_id, released_at, priority)
      ON mews.voucher_code_outbox TO mews_writer;
    GRANT SELECT ON SEQUENCE mews.voucher_code_outbox_id_seq TO mews_writer;
  END IF;
END $$
"""
GRANTS_BEFORE = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_writer') THEN
    REVOKE INSERT, UPDATE ON mews.voucher_code_outbox FROM mews_writer;
    REVOKE SELECT ON SEQUENCE mews.voucher_code_outbox_id_seq FROM mews_writer;
    GRANT INSERT (operation, voucher_id, value, validity_start_utc, validity_end_utc, voucher_code_id, idempotency_key,
                  not_before, note), UPDATE (status) ON mews.voucher_code_outbox TO mews_writer;
  END IF;
END $$
"""

KEY_COMMENT = "COMMENT ON COLUMN mews.voucher_code_outbox.idempotency_key IS '{}'"


def upgrade() -> None:
    op.add_column(
        "voucher_code_outbox",
        sa.Column(
            "priority",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="What has a higher one goes first; given by the operator.",
        ),
        schema="mews",
    )
    op.create_index(
        "voucher_code_outbox_turns_idx",
        "voucher_code_outbox",
        [
            "connection",
            "operation",
            "enterprise_id",
            "priority",
            sa.text("coalesce(queued_by, '')"),
            "next_attempt_at",
            "id",
        ],
        schema="mews",
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_unique_constraint(
        op.f("voucher_code_outbox_queued_by_key"),
        "voucher_code_outbox",
        ["queued_by", "idempotency_key"],
        schema="mews",
    )
    op.drop_constraint(op.f("voucher_code_outbox_idempotency_key_key"), "voucher_code_outbox", schema="mews")
    op.execute(KEY_COMMENT.format("The same key of the same user again queues nothing: for an application''s retries."))
    for statement in (QUEUE_CHANGE, CHANGE_ROW, TELL_QUEUED, *TRIGGERS, GRANTS):
        op.execute(statement)


def downgrade() -> None:
    for statement in (*TRIGGERS_BEFORE, GRANTS_BEFORE):
        op.execute(statement)
    for function in ("queue_change", "change_row", "tell_queued"):
        op.execute(f"DROP FUNCTION sync.{function}()")
    op.execute(KEY_COMMENT.format("The same key again queues nothing: for an application''s retries."))
    op.create_unique_constraint(
        op.f("voucher_code_outbox_idempotency_key_key"), "voucher_code_outbox", ["idempotency_key"], schema="mews"
    )
    op.drop_constraint(op.f("voucher_code_outbox_queued_by_key"), "voucher_code_outbox", schema="mews")
    op.drop_index("voucher_code_outbox_turns_idx", "voucher_code_outbox", schema="mews")
    op.drop_column("voucher_code_outbox", "priority", schema="mews")
