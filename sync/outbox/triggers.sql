-- The triggers of mews.voucher_code_outbox that are in force; sync/mirror/history.sql has those of the codes.
--
-- To change one: edit it here, copy the whole file to the name of a new migration with .sql behind it, and let that
-- migration load the copy, as migrations/versions/0052_words.py does. What was released is never edited.
-- tests/migrations/test_triggers.py compares this file with the newest copy and with a migrated database.
--
-- They run in the sessions of users, so they rely on nothing of theirs:
-- * Each function sets its own search_path: otherwise a user's function or operator could be taken for PostgreSQL's.
-- * A column is written with its table, and a bare word is a variable: otherwise a column that a user has added to the
--   table, by the name of a variable, would make the statement ambiguous.
-- * For invalid input there is a RAISE in the trigger's own function, with a text that holds no code's value. An error
--   from a function further in could quote one, so the daemon and the commands show no text of it (OWN_RULE in
--   sync/postgres/wording.py).
-- * The triggers keep their names: they fire in the order of these, and users have put theirs before or behind them.
-- * What the unique indexes hold is compared as they do, COLLATE "C": otherwise a look-up could not use them.
-- * Only ASCII stands here: otherwise a database of another encoding could not hold it.


-- Before each row is inserted: raise an error for invalid input, or fill in what the daemon goes by. A delete takes
-- back an add of the same code that was not sent yet. CHECK constraints stand behind it, for whoever disables triggers.
--
-- SECURITY DEFINER: it reads and cancels rows as the table's owner, since INSERT may be all that its user is granted.
-- So current_user is that owner here, and session_user who inserts.
--
-- Without statistics, or with those of an empty outbox, a plan reads the whole table for each row, and is kept for the
-- session: 20,000 rows took 29 s. So every look-up has an index that holds its condition, and may use no other way.
CREATE OR REPLACE FUNCTION sync.queue_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_indexscan = on AS $$
#variable_conflict use_variable
DECLARE
  daemon_setting_before text := coalesce(current_setting('voucher_sync.daemon', true), '');
  is_operator boolean := session_user = current_user OR pg_has_role(session_user, current_user, 'MEMBER');
  same_key_id bigint;
  same_key_asks_the_same boolean;
  same_key_was_cancelled boolean;
  last_number bigint;
  broken_rule text;
  is_code_expected boolean := true;
  unsent_id bigint;
  taken_back_id bigint;
  may_be_made boolean;
  first_status text;
  waits boolean := false;
  is_removed boolean;
BEGIN
  -- 1. The same key again queues nothing. A delete that is cancelled because it took back an add has done its work, so
  -- its key counts as one of a queued change; any other cancelled change was not made, and its key must not hide that.
  IF NEW.idempotency_key IS NOT NULL THEN
    SELECT same_key.id,
           same_key.status = 'cancelled'
           AND same_key.took_back_id IS NULL,
           NEW.operation = same_key.operation
           AND CASE WHEN NEW.operation = 'delete' AND NEW.voucher_code_id IS NOT NULL
             THEN NEW.voucher_code_id = same_key.voucher_code_id
             ELSE (NEW.voucher_id, NEW.value) = (same_key.voucher_id, same_key.value)
             END
           AND NEW.after_id IS NOT DISTINCT FROM same_key.after_id
           AND (NEW.operation <> 'add' OR (NEW.validity_start_utc, NEW.validity_end_utc)
                                          IS NOT DISTINCT FROM (same_key.validity_start_utc, same_key.validity_end_utc))
      INTO same_key_id, same_key_was_cancelled, same_key_asks_the_same
      FROM mews.voucher_code_outbox AS same_key
      WHERE same_key.queued_by COLLATE "C" = session_user
        AND same_key.idempotency_key COLLATE "C" = NEW.idempotency_key;
    IF same_key_asks_the_same AND NOT coalesce(same_key_was_cancelled, false) THEN
      RETURN NULL;  -- an application's own retry
    ELSIF same_key_id IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'unique_violation', MESSAGE = format(
        CASE WHEN same_key_asks_the_same
          THEN 'idempotency_key: row %s had the same key and was cancelled; to ask for it again, give it another key'
          ELSE 'idempotency_key: row %s has the same key and asks for something else; give each change a key of its own'
        END, same_key_id);
    END IF;
  END IF;

  -- 2. The number, which is the order of what is done to a code: a writer who gives an old one by himself would go
  -- before others, so he gets the next one instead.
  NEW.id := coalesce(NEW.id, nextval('mews.voucher_code_outbox_id_seq'));
  BEGIN
    last_number := currval('mews.voucher_code_outbox_id_seq');
  EXCEPTION WHEN object_not_in_prerequisite_state THEN
    last_number := 0;  -- none was given to this session yet
  END;
  IF NEW.id BETWEEN 1 AND last_number - 1 AND NOT is_operator THEN
    NEW.id := nextval('mews.voucher_code_outbox_id_seq');
    last_number := NEW.id;
  END IF;

  -- 3. Mappers send every column that they know: null is as good as left out, and so is the empty text that some send
  -- for a text that nobody has given. An empty idempotency_key stays what it is, and is refused: whoever means to give
  -- keys and gives none must learn of it.
  NEW.status := coalesce(nullif(NEW.status, ''), 'pending');
  NEW.attempts := coalesce(NEW.attempts, 0);
  NEW.priority := coalesce(NEW.priority, 0);
  NEW.blocked_alone := coalesce(NEW.blocked_alone, 0);
  NEW.singled_out := coalesce(NEW.singled_out, 0);
  NEW.last_error := nullif(NEW.last_error, '');
  NEW.request_id := nullif(NEW.request_id, '');
  NEW.connection := nullif(NEW.connection, '');
  NEW.queued_by := nullif(NEW.queued_by, '');
  NEW.uncertain_because := nullif(NEW.uncertain_because, '');
  NEW.held_because := nullif(NEW.held_because, '');
  NEW.changed_by := nullif(NEW.changed_by, '');
  NEW.changed_how := nullif(NEW.changed_how, '');
  IF NEW.operation = 'delete' AND NEW.voucher_code_id IS NOT NULL THEN
    NEW.value := nullif(NEW.value, '');
  END IF;

  -- 4. The rules for input; of several that are broken, the first is the error. There is none for created_at: what a
  -- mapper sends for it is replaced below.
  broken_rule := CASE
    WHEN NEW.status <> 'pending' OR NEW.attempts <> 0 OR NEW.last_error IS NOT NULL OR NEW.request_id IS NOT NULL
      OR NEW.sent_at IS NOT NULL OR NEW.finished_at IS NOT NULL OR NEW.attempt_id IS NOT NULL
      OR NEW.released_at IS NOT NULL OR NEW.next_attempt_at IS NOT NULL OR NEW.connection IS NOT NULL
      OR NEW.enterprise_id IS NOT NULL OR NEW.first_sent_utc IS NOT NULL OR NEW.unknown_since_utc IS NOT NULL
      OR NEW.target_code_id IS NOT NULL OR NEW.queued_by IS NOT NULL OR NEW.first_sent_at IS NOT NULL
      OR NEW.uncertain_because IS NOT NULL OR NEW.blocked_alone <> 0 OR NEW.singled_out <> 0
      OR NEW.held_because IS NOT NULL OR NEW.took_back_id IS NOT NULL OR NEW.changed_by IS NOT NULL
      OR NEW.changed_at IS NOT NULL OR NEW.changed_how IS NOT NULL OR NEW.erased_at IS NOT NULL
      OR NEW.held_by_gap IS NOT NULL
      THEN 'insert only operation, voucher_id, value, validity_start_utc, validity_end_utc, voucher_code_id, '
           'idempotency_key, not_before, after_id and note: voucher-sync fills the other columns'
    WHEN NEW.id > last_number OR NEW.id < 1
      THEN 'id: the database numbers the rows; leave it out, or give DEFAULT'
    WHEN NEW.priority <> 0 AND NOT is_operator
      THEN 'priority: only the owner of the outbox may give one; leave it out'
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
      THEN 'not_before: must lie in the years 1 to 9999; null means at once'
    WHEN NEW.after_id >= NEW.id
      THEN 'after_id: must be the number of a row that was queued before'
  END;
  IF broken_rule IS NULL AND NEW.after_id IS NOT NULL THEN
    -- Whoever waits for a row keeps it from being cleaned away, so nobody ties himself to rows of others. What is told
    -- of a row of somebody else is what is told of none.
    SELECT first.status INTO first_status FROM mews.voucher_code_outbox AS first
      WHERE first.id = NEW.after_id AND (is_operator OR first.queued_by COLLATE "C" = session_user);
    waits := first_status IS DISTINCT FROM 'done' AND NOT EXISTS (
      SELECT FROM mews.voucher_code_outbox AS first WHERE first.id = NEW.after_id AND first.took_back_id IS NOT NULL);
    broken_rule := CASE
      WHEN first_status IS NULL AND is_operator THEN format('after_id: the outbox has no row %s', NEW.after_id)
      WHEN first_status IS NULL THEN format('after_id: you have queued no row %s', NEW.after_id)
      WHEN waits AND first_status = 'cancelled'
        THEN format('after_id: row %s was cancelled, and is never done', NEW.after_id)
    END;
  END IF;
  IF broken_rule IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = broken_rule;
  END IF;

  -- 5. Who queued it, when it is due, and which connection and hotel it concerns. created_at is not when the
  -- transaction began: otherwise a read of the API that began in between would seem to be later than the row, and
  -- prove what it has not seen.
  NEW.created_at := clock_timestamp();
  NEW.queued_by := session_user;
  -- A row that waits for another is put off for as long as there are years, which a release that knows nothing of
  -- after_id obeys too; sync/outbox/followers.py makes it due.
  NEW.next_attempt_at := CASE WHEN waits THEN '9999-12-31 00:00+00' ELSE greatest(now(), NEW.not_before) END;
  IF NEW.voucher_code_id IS NOT NULL THEN
    SELECT code.voucher_id, code.value INTO NEW.voucher_id, NEW.value
      FROM mews.voucher_codes AS code WHERE code.id = NEW.voucher_code_id;
    is_code_expected := FOUND;
  END IF;
  SELECT voucher.connection, voucher.enterprise_id, EXISTS (
      SELECT FROM sync.connections AS known WHERE known.name = voucher.connection AND known.removed_at IS NOT NULL)
    INTO NEW.connection, NEW.enterprise_id, is_removed
    FROM mews.vouchers AS voucher WHERE voucher.id = NEW.voucher_id;

  IF NEW.operation = 'delete' AND NEW.voucher_code_id IS NULL THEN
    is_code_expected := EXISTS (
      SELECT FROM mews.voucher_codes AS code
      WHERE code.voucher_id = NEW.voucher_id AND code.value = NEW.value AND code.is_active);

    -- 6. Take back the add of the same code that was not sent yet. Who may not cancel that add does not take it back
    -- either, and nor does a delete that waits for another row: then the delete is sent after the add. The add's row is
    -- locked first: a claim passes over it from then on, or has taken it already and is waited for, and so is a hold. An
    -- add from before commits were lost may have been made, whether it is held for that yet or is still to be, and the
    -- mirror may not show its code yet. The setting makes the UPDATE a move of the daemon's for check_update.
    SELECT unsent.id, unsent.held_because IS NOT DISTINCT FROM 'before_a_gap' OR EXISTS (
        SELECT FROM sync.incarnation AS known
        WHERE (known.gap = 'copy' OR unsent.id <= known.gap_through) AND unsent.held_by_gap IS DISTINCT FROM known.gap_at
          AND (unsent.released_at IS NULL OR unsent.released_at < known.gap_at))
      INTO unsent_id, may_be_made
      FROM mews.voucher_code_outbox AS unsent
      WHERE unsent.operation = 'add' AND unsent.status IN ('pending', 'held') AND unsent.attempts = 0
        AND unsent.voucher_id = NEW.voucher_id AND unsent.value COLLATE "C" = NEW.value
        AND (is_operator OR unsent.queued_by = session_user) AND NOT waits
      FOR NO KEY UPDATE;  -- one at most, by voucher_code_outbox_same_add_queued_idx
    IF FOUND THEN
      PERFORM set_config('voucher_sync.daemon', 'on', true);
      UPDATE mews.voucher_code_outbox AS unsent
        SET status = 'cancelled', held_because = NULL, finished_at = now(),
            changed_by = session_user, changed_at = now(), changed_how = 'taken back',
            last_error = CASE WHEN may_be_made
              THEN format('taken back by the delete in row %s, which deletes what it may have made', NEW.id)
              ELSE format('taken back, before it was sent, by the delete in row %s', NEW.id) END
        WHERE unsent.id = unsent_id
        RETURNING unsent.id INTO taken_back_id;
      PERFORM set_config('voucher_sync.daemon', daemon_setting_before, true);
    END IF;

    -- 7. What is left for the delete to do. A code of the same value that stands is still to be deleted, unless an
    -- earlier delete does that. The index of a voucher's rows finds that one; the index of all deletes would be read
    -- from end to end, so the condition on operation is written in a way that this index does not match.
    IF taken_back_id IS NOT NULL AND NOT may_be_made AND NOT (is_code_expected AND NOT EXISTS (
      SELECT FROM mews.voucher_code_outbox AS earlier
      WHERE earlier.voucher_id = NEW.voucher_id AND earlier.value = NEW.value AND earlier.operation || '' = 'delete'
        AND earlier.status IN ('pending', 'sending', 'uncertain', 'held')))
    THEN
      NEW.status := 'cancelled';
      NEW.finished_at := now();
      NEW.took_back_id := taken_back_id;
      NEW.last_error := format('took back the add in row %s before it was sent', taken_back_id);
    ELSIF NOT is_code_expected THEN
      is_code_expected := EXISTS (
        SELECT FROM mews.voucher_code_outbox AS earlier
        WHERE earlier.voucher_id = NEW.voucher_id AND earlier.value COLLATE "C" = NEW.value AND earlier.operation = 'add'
          AND earlier.status IN ('pending', 'sending', 'uncertain', 'held'));
    END IF;
  END IF;

  -- 8. What it waits for: the row that it names, a connection that nobody works for, or the next pull, as a delete for
  -- which there is no code, neither in the mirror nor on its way. A removed connection's is not refused: its hotel may
  -- be on its way to another integrator's token, and whoever queues has nowhere else to keep it.
  IF waits THEN
    NEW.last_error := format('waits until row %s is done', NEW.after_id);
  ELSIF is_removed AND NEW.status = 'pending' THEN
    NEW.last_error := format('connection %s was removed: it waits until that is added again', NEW.connection);
  ELSIF NOT is_code_expected AND NEW.status = 'pending' THEN
    NEW.last_error := 'the mirror shows no such code: it waits for the next pull, and fails if that finds none';
  END IF;
  RETURN NEW;
END $$;


-- After each INSERT, once for all its rows: warn of changes that can come to nothing, and wake the daemon.
CREATE OR REPLACE FUNCTION sync.warn_and_wake() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
  summary record;
  of_removed record;
  transaction_id text := pg_current_xact_id()::text || ' ';
  notified_in text := coalesce(current_setting('voucher_sync.notified_in', true), '');
  word text;
  is_to_notify boolean;
BEGIN
  -- In one pass: a statement may queue a million rows, and a transaction may be a million statements.
  SELECT count(*) FILTER (WHERE queued.operation = 'add' AND queued.validity_end_utc <= now()) AS expired_adds,
         min(queued.id) FILTER (WHERE queued.operation = 'add' AND queued.validity_end_utc <= now()) AS expired_add,
         count(*) FILTER (WHERE queued.operation = 'delete' AND queued.status = 'pending'
                                AND starts_with(queued.last_error, 'the mirror shows no such code')) AS codeless_deletes,
         min(queued.id) FILTER (WHERE queued.operation = 'delete' AND queued.status = 'pending'
                                AND starts_with(queued.last_error, 'the mirror shows no such code')) AS codeless_delete,
         bool_or(queued.last_error LIKE 'connection % was removed: %') AS are_some_of_removed,
         count(*) = count(queued.connection) AS are_all_known,
         min(queued.connection COLLATE "C") AS first_connection,
         max(queued.connection COLLATE "C") AS last_connection
    INTO summary FROM queued;

  -- 1. Warnings, which stop nothing.
  IF summary.expired_adds > 0 THEN
    RAISE WARNING 'validity_end_utc has passed: % of the queued adds can never be used, the first of them in row %',
      summary.expired_adds, summary.expired_add;
  END IF;
  IF summary.codeless_deletes > 0 THEN
    RAISE WARNING 'the mirror shows no code for % of the queued deletes, the first of them in row %: they wait for the '
      'next pull, and fail if it finds none', summary.codeless_deletes, summary.codeless_delete;
  END IF;
  IF summary.are_some_of_removed THEN
    FOR of_removed IN
      SELECT queued.connection, count(*) AS number, min(queued.id) AS first_id FROM queued
        WHERE queued.status = 'pending' AND queued.last_error LIKE 'connection % was removed: %'
        GROUP BY queued.connection ORDER BY queued.connection LIMIT 10
    LOOP
      RAISE WARNING 'connection % was removed: % of the queued changes wait until it is added again, the first of them '
        'in row %', of_removed.connection, of_removed.number, of_removed.first_id;
    END LOOP;
  END IF;

  -- 2. The daemon looks every few seconds anyway, so a notification that cannot be sent must not cost the change.
  -- Somebody who listens and never reads fills the queue for all; and a transaction that has notified cannot be
  -- prepared (XA, two-phase commit), so whoever prepares turns the setting off.
  --
  -- Transactions that have notified commit one after another, each waiting until the one before is on the disk: if all
  -- of 200 writers did, an eighth of their commits went through. So three at a time do, each by a lock of its own until
  -- its end, and whoever finds none free is found by the daemon, which looks again after each notification. It is three
  -- so that one transaction that stays open does not silence all others, and a transaction takes one, once.
  --
  -- It says whose they are that were queued, by a word that only who knows the connection's name can tell: every user of
  -- the database may listen. It says nothing where they are of several, or of none yet. sync/postgres/listen.py has the
  -- same words.
  IF coalesce(current_setting('voucher_sync.notify', true), '') <> 'off' THEN
    word := CASE
      WHEN summary.are_all_known AND summary.first_connection = summary.last_connection
      THEN left(encode(sha256(convert_to(summary.first_connection, 'UTF8')), 'hex'), 16)
      ELSE '' END;
    IF starts_with(notified_in, transaction_id) THEN
      is_to_notify := notified_in NOT IN (transaction_id, transaction_id || word);
      word := '';
    ELSE
      is_to_notify := pg_try_advisory_xact_lock(1986228835, 1) OR pg_try_advisory_xact_lock(1986228835, 2)
        OR pg_try_advisory_xact_lock(1986228835, 3);
    END IF;
    IF is_to_notify AND pg_notification_queue_usage() < 0.5 THEN
      PERFORM pg_notify('voucher_sync_outbox', word);
      PERFORM set_config('voucher_sync.notified_in', transaction_id || word, true);
    END IF;
  END IF;
  RETURN NULL;
END $$;


-- Before each row is updated: raise an error for a move that does not exist, and for what is the daemon's or somebody
-- else's to change; fill in what belongs to a user's new status.
--
-- Not SECURITY DEFINER, since it asks what the current user may do. Called by a user without rights on schema sync, it
-- can call no function of that schema.
CREATE OR REPLACE FUNCTION sync.check_update() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  move text := OLD.status || ' > ' || NEW.status;
  -- Anybody can turn the setting on, but a writer may not DELETE.
  is_daemon boolean := coalesce(current_setting('voucher_sync.daemon', true), '') = 'on'
    AND has_table_privilege(current_user, TG_RELID, 'DELETE');
BEGIN
  -- 1. All moves that there are. sync/outbox/rules.py has the same, and a test holds the two together.
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

  -- 2. Those of them that users may make.
  IF OLD.status <> NEW.status AND NOT move = ANY (ARRAY[
    'pending > cancelled', 'held > pending', 'held > cancelled', 'failed > pending'])
  THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = format('row %s: only voucher-sync itself makes a %s change %s', OLD.id, OLD.status, NEW.status),
      HINT = 'Users may cancel what is pending or held, release what is held, and retry what failed.';
  END IF;

  -- 3. The columns that users may not change, each by its name: those that users have added are their own, and a
  -- generated one has no value yet, so that whole rows would always differ.
  IF ROW(NEW.id, NEW.operation, NEW.voucher_id, NEW.value, NEW.validity_start_utc, NEW.validity_end_utc,
         NEW.voucher_code_id, NEW.idempotency_key, NEW.attempts, NEW.next_attempt_at, NEW.last_error, NEW.request_id,
         NEW.created_at, NEW.sent_at, NEW.finished_at, NEW.queued_by, NEW.connection, NEW.enterprise_id, NEW.attempt_id,
         NEW.first_sent_utc, NEW.unknown_since_utc, NEW.target_code_id, NEW.released_at,
         NEW.first_sent_at, NEW.uncertain_because, NEW.blocked_alone, NEW.singled_out, NEW.after_id,
         NEW.held_because, NEW.took_back_id, NEW.changed_by, NEW.changed_at, NEW.changed_how, NEW.erased_at,
         NEW.held_by_gap)
     IS DISTINCT FROM
     ROW(OLD.id, OLD.operation, OLD.voucher_id, OLD.value, OLD.validity_start_utc, OLD.validity_end_utc,
         OLD.voucher_code_id, OLD.idempotency_key, OLD.attempts, OLD.next_attempt_at, OLD.last_error, OLD.request_id,
         OLD.created_at, OLD.sent_at, OLD.finished_at, OLD.queued_by, OLD.connection, OLD.enterprise_id, OLD.attempt_id,
         OLD.first_sent_utc, OLD.unknown_since_utc, OLD.target_code_id, OLD.released_at,
         OLD.first_sent_at, OLD.uncertain_because, OLD.blocked_alone, OLD.singled_out, OLD.after_id,
         OLD.held_because, OLD.took_back_id, OLD.changed_by, OLD.changed_at, OLD.changed_how, OLD.erased_at,
         OLD.held_by_gap)
  THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = format('row %s: only status, not_before, note and priority may be changed', OLD.id),
      HINT = 'To change what is asked for, cancel the row and insert another one. If you sent every column back as you '
             'read it, voucher-sync has changed the row meanwhile: read it again.';
  END IF;
  IF ROW(NEW.status, NEW.not_before, NEW.note, NEW.priority)
     IS NOT DISTINCT FROM ROW(OLD.status, OLD.not_before, OLD.note, OLD.priority)
  THEN
    RETURN NEW;  -- a mapper that sends every column back as it was
  END IF;

  -- 4. Who may change what is left: the owner and operators all of it, others cancel what they queued themselves.
  IF NOT EXISTS (
       SELECT FROM pg_roles AS operator
       WHERE (operator.rolname = 'mews_operator'
              OR operator.oid = (SELECT relation.relowner FROM pg_class AS relation WHERE relation.oid = TG_RELID))
         AND pg_has_role(session_user, operator.oid, 'MEMBER'))
     AND NOT (OLD.queued_by = session_user AND NEW.status = 'cancelled' AND NEW.priority = OLD.priority)
  THEN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
      MESSAGE = format('row %s: you may cancel what you queued yourself; ask the operator for anything else', OLD.id);
  END IF;
  IF char_length(NEW.note) > 10000 AND NEW.note IS DISTINCT FROM OLD.note THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = format('row %s: note: has %s characters, 10000 are the most', OLD.id, char_length(NEW.note));
  END IF;

  -- 5. Who did what; the daemon leaves it as it is, so that it can be told after the row went on.
  NEW.changed_by := session_user;
  NEW.changed_at := now();
  NEW.changed_how := CASE
    WHEN NEW.status = OLD.status THEN 'edited'
    WHEN NEW.status = 'cancelled' THEN 'cancelled'
    WHEN OLD.status = 'held' THEN 'released'
    ELSE 'retried' END;

  -- 6. What belongs to another time.
  IF NEW.not_before IS DISTINCT FROM OLD.not_before THEN
    IF NEW.status NOT IN ('pending', 'held') OR NEW.not_before < '0001-01-01 00:00+00'
       OR NEW.not_before >= '10000-01-01 00:00+00' THEN
      RAISE EXCEPTION USING ERRCODE = 'check_violation',
        MESSAGE = format('row %s: not_before may be changed before the row is sent, to an instant in the years 1 to '
                         '9999', OLD.id);
    END IF;
    NEW.next_attempt_at := greatest(now(), NEW.not_before);
  END IF;

  -- 7. What belongs to another status.
  IF OLD.status <> NEW.status THEN
    NEW.held_because := NULL;
    IF NEW.status = 'cancelled' THEN
      NEW.finished_at := now();
    ELSE
      NEW.finished_at := NULL;
      NEW.next_attempt_at := greatest(now(), NEW.not_before);
      NEW.released_at := CASE WHEN OLD.status = 'held' THEN now() ELSE OLD.released_at END;
    END IF;
  END IF;

  -- 8. What waits for another row goes on waiting for it, as in queue_change.
  IF NEW.after_id IS NOT NULL AND NEW.next_attempt_at IS DISTINCT FROM OLD.next_attempt_at AND NOT EXISTS (
    SELECT FROM mews.voucher_code_outbox AS first
    WHERE first.id = NEW.after_id AND (first.status = 'done' OR first.took_back_id IS NOT NULL))
  THEN
    NEW.next_attempt_at := '9999-12-31 00:00+00';
  END IF;

  -- 9. Wake the daemon, however many others do so: operators are few.
  IF NEW.status = 'pending' AND coalesce(current_setting('voucher_sync.notify', true), '') <> 'off'
     AND pg_notification_queue_usage() < 0.5
  THEN
    PERFORM pg_notify('voucher_sync_outbox', '');
  END IF;
  RETURN NEW;
END $$;


-- Before each row is updated by the release that knew no state in columns: fill in what this one reads there. No row
-- that this release writes meets its condition. It goes once that release is nowhere any more.
--
-- That release notes an outcome after it has written the row, so only the words tell. What it finds refused, with a past
-- that is unknown, counts as unknown: it is sent once more, and refused once more.
CREATE OR REPLACE FUNCTION sync.fill_in_state() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NEW.status = 'sending' AND NEW.attempts > 0 THEN
    NEW.first_sent_at := coalesce(NEW.first_sent_at, NEW.sent_at);
  END IF;
  IF NEW.status <> 'uncertain' THEN
    NEW.uncertain_because := NULL;
  ELSIF NEW.uncertain_because IS NULL THEN
    NEW.uncertain_because := CASE NEW.last_error
      WHEN 'the answer does not list it' THEN 'unlisted'
      WHEN 'the process that sent it ended before it had noted an answer' THEN 'expired'
      ELSE 'unknown' END;
  END IF;
  IF NEW.status <> 'held' THEN
    NEW.held_because := NULL;
  ELSIF NEW.held_because IS NULL THEN
    NEW.held_because := CASE
      WHEN starts_with(NEW.last_error, 'held, since the database was restored or has lost commits') THEN 'before_a_gap'
      ELSE 'too_many_deletes' END;
  END IF;
  IF NEW.status = 'failed' THEN
    NEW.blocked_alone := 0;
    NEW.singled_out := 0;
  END IF;
  RETURN NEW;
END $$;


-- Before the outbox is emptied by TRUNCATE: what was queued before and is put back, as from a backup, may be done or
-- cancelled already, and nothing else tells of it. What is queued from now on is as ever.
--
-- SECURITY DEFINER: whoever may empty it need not see schema sync.
CREATE OR REPLACE FUNCTION sync.note_emptied() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE sync.incarnation AS known SET emptied_at = clock_timestamp() WHERE known.id IS NOT NULL;
  RETURN NULL;
END $$;


-- Triggers: what calls them.
CREATE OR REPLACE TRIGGER check_insert BEFORE INSERT ON mews.voucher_code_outbox
FOR EACH ROW EXECUTE FUNCTION sync.queue_change();

CREATE OR REPLACE TRIGGER wake AFTER INSERT ON mews.voucher_code_outbox
REFERENCING NEW TABLE AS queued FOR EACH STATEMENT EXECUTE FUNCTION sync.warn_and_wake();

CREATE OR REPLACE TRIGGER check_update BEFORE UPDATE ON mews.voucher_code_outbox
FOR EACH ROW EXECUTE FUNCTION sync.check_update();

CREATE OR REPLACE TRIGGER fill_in_state BEFORE UPDATE ON mews.voucher_code_outbox FOR EACH ROW
WHEN (NEW.status = 'sending' AND NEW.attempts > 0 AND NEW.first_sent_at IS NULL
      OR (NEW.status = 'uncertain') <> (NEW.uncertain_because IS NOT NULL)
      OR (NEW.status = 'held') <> (NEW.held_because IS NOT NULL)
      OR NEW.status = 'failed' AND NEW.blocked_alone > 0)
EXECUTE FUNCTION sync.fill_in_state();

CREATE OR REPLACE TRIGGER note_emptied BEFORE TRUNCATE ON mews.voucher_code_outbox
FOR EACH STATEMENT EXECUTE FUNCTION sync.note_emptied();
