-- What keeps the versions of codes and counts them, and the functions of schema mews, as they are in force.
--
-- To change one: edit it here, copy the whole file to the name of a new migration with .sql behind it, and let that
-- migration load the copy, as migrations/versions/0051_settled_before.py does. What was released is never edited.
-- tests/migrations/test_triggers.py compares this file with the newest copy and with a migrated database.


-- After each UPDATE of codes, once for all its rows: keep each version that was replaced, whoever has replaced it, the
-- release before this one too. The present version stands in mews.voucher_codes alone, so that a code which never
-- changes, as in a backfill, costs nothing here.
--
-- A version is what a change of mirrored_at has ended: the mirror's every statement that changes a code sets it, and two
-- that change the same code get instants in the order of their locks. The first version began when the API says that the
-- code was last changed, since by the API's word it was so since then; each later one when the mirror first showed it.
--
-- SECURITY DEFINER: who was granted UPDATE on the codes keeps their versions without a right on these.
--
-- The plan is kept for the session. One that was made for a single row would compare each row that is replaced with each
-- that replaces one, had it the choice: of 10,000, as a take-over moves at once, for a minute.
CREATE OR REPLACE FUNCTION sync.keep_versions() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $$
BEGIN
  IF coalesce(current_setting('voucher_sync.history', true), '') = 'off' THEN
    RETURN NULL;
  END IF;
  INSERT INTO mews.voucher_code_versions
    (voucher_code_id, valid_from, valid_to, changed, voucher_id, value, validity_start_utc, validity_end_utc,
     created_utc, updated_utc, is_active, connection, missing_since, delete_noted_at)
  SELECT code.id,
         CASE WHEN code.mirrored_at = code.first_seen_at
           THEN least(code.updated_utc, code.first_seen_at) ELSE code.mirrored_at END,
         later.mirrored_at,
         array_remove(ARRAY[
           CASE WHEN later.voucher_id IS DISTINCT FROM code.voucher_id THEN 'voucher_id' END,
           CASE WHEN later.value IS DISTINCT FROM code.value THEN 'value' END,
           CASE WHEN later.validity_start_utc IS DISTINCT FROM code.validity_start_utc THEN 'validity_start_utc' END,
           CASE WHEN later.validity_end_utc IS DISTINCT FROM code.validity_end_utc THEN 'validity_end_utc' END,
           CASE WHEN later.created_utc IS DISTINCT FROM code.created_utc THEN 'created_utc' END,
           CASE WHEN later.updated_utc IS DISTINCT FROM code.updated_utc THEN 'updated_utc' END,
           CASE WHEN later.is_active IS DISTINCT FROM code.is_active THEN 'is_active' END,
           CASE WHEN later.connection IS DISTINCT FROM code.connection THEN 'connection' END,
           CASE WHEN later.missing_since IS DISTINCT FROM code.missing_since THEN 'missing_since' END,
           CASE WHEN later.delete_noted_at IS DISTINCT FROM code.delete_noted_at THEN 'delete_noted_at' END
         ], NULL),
         code.voucher_id, code.value, code.validity_start_utc, code.validity_end_utc,
         code.created_utc, code.updated_utc, code.is_active, code.connection, code.missing_since, code.delete_noted_at
  FROM replaced AS code JOIN replacing AS later ON later.id = code.id
  WHERE later.mirrored_at <> code.mirrored_at;
  RETURN NULL;
END $$;


-- Every code as it was at an instant. What is not known of that instant is not made up: a code of which no version was
-- seen that held then is left out, as one that was deleted before it was first mirrored.
CREATE OR REPLACE FUNCTION mews.voucher_codes_as_of(instant timestamptz) RETURNS SETOF mews.voucher_code_history
LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT * FROM mews.voucher_code_history AS version
  WHERE version.valid_from <= $1 AND (version.valid_to > $1 OR version.valid_to IS NULL)
$$;


-- The instant before which nothing more can come to light: what was written to schema mews with an earlier mirrored_at
-- is committed. A transaction writes instants that are not before its own start, so it is the start of the oldest one
-- that is open in a session which may write there, or may become a role that may, less a second for one that begins at
-- this moment.
--
-- SECURITY DEFINER: nobody else sees when the transactions of the owner's sessions began. On a standby they cannot be
-- seen at all, nor where track_activities is off: then it is null. So it is at a subscriber of logical replication, where
-- rows come as late as they come. Of a session that the owner may not look into, as a superuser's or that of a login
-- which acts for the owner, it is told that there is one and, by its locks, whether it has a transaction: it is null then.
--
-- What a transaction has once seen of other sessions it goes on seeing, until it clears that: whoever asks twice in one
-- would be told an instant of now by the sessions of then.
CREATE OR REPLACE FUNCTION mews.settled_before() RETURNS timestamptz
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT pg_stat_clear_snapshot();
  SELECT CASE WHEN NOT pg_is_in_recovery() AND coalesce(bool_and(session.is_seen), true) AND NOT EXISTS (
      SELECT FROM pg_subscription_rel AS replicated JOIN pg_class AS relation ON relation.oid = replicated.srrelid
      WHERE relation.relnamespace = 'mews'::regnamespace)
    THEN least(clock_timestamp(), min(session.xact_start)) - interval '1 second' END
  FROM (
    SELECT activity.xact_start, CASE WHEN activity.backend_type IS NULL
             THEN activity.pid <> ALL (ARRAY(SELECT held.pid FROM pg_locks AS held WHERE held.locktype = 'virtualxid'))
             ELSE coalesce(activity.state <> 'disabled', false) END AS is_seen
    FROM pg_stat_activity AS activity
    WHERE activity.datname = current_database() AND activity.pid <> pg_backend_pid()
      AND coalesce(activity.backend_type, 'client backend') = 'client backend'
      AND (has_table_privilege(activity.usesysid, 'mews.voucher_codes', 'UPDATE')
           OR pg_has_role(activity.usesysid, current_user, 'MEMBER'))
  ) AS session
$$;


-- The name of a time zone, or null where this server knows none of that name: a query that converts an instant by a name
-- which the API has told and the server does not know would fail as a whole. What holds a digit must be in the list: any
-- other is taken for a rule of POSIX, by which +05:30 is five and a half hours to the west.
CREATE OR REPLACE FUNCTION mews.known_time_zone(name text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM now() AT TIME ZONE name;
  IF name ~ '[0-9]' THEN
    RETURN (SELECT zone.name FROM pg_timezone_names AS zone WHERE lower(zone.name) = lower(known_time_zone.name)
            LIMIT 1);
  END IF;
  RETURN name;
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN NULL;
END $$;

-- Before release 17 nothing that may catch an error runs within a parallel plan: every query that had one would fail.
DO $$ BEGIN
  IF current_setting('server_version_num')::int < 170000 THEN
    ALTER FUNCTION mews.known_time_zone(text) PARALLEL UNSAFE;
  END IF;
END $$;


-- After each statement that changes codes, once for all its rows: note by how much the counts of each voucher and month
-- differ now. It is always a new row, so that nobody waits for another one's commit; sync/mirror/counts.py makes one of
-- many. What a count is of stands in COUNTED there.
--
-- SECURITY DEFINER: who was granted a change of the codes counts them without a right on the counts.
CREATE OR REPLACE FUNCTION sync.count_codes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO sync.code_counts (voucher_id, created_month, issued, active, deleted)
    SELECT code.voucher_id, date_trunc('month', code.created_utc AT TIME ZONE 'UTC'), count(*),
           count(*) FILTER (WHERE code.is_active AND code.missing_since IS NULL),
           count(*) FILTER (WHERE NOT code.is_active)
    FROM added AS code GROUP BY 1, 2;
  ELSIF TG_OP = 'UPDATE' THEN
    INSERT INTO sync.code_counts (voucher_id, created_month, issued, active, deleted)
    SELECT code.voucher_id, date_trunc('month', code.created_utc AT TIME ZONE 'UTC'), sum(code.sign),
           coalesce(sum(code.sign) FILTER (WHERE code.is_active AND code.missing_since IS NULL), 0),
           coalesce(sum(code.sign) FILTER (WHERE NOT code.is_active), 0)
    FROM (
      SELECT 1 AS sign, later.voucher_id, later.created_utc, later.is_active, later.missing_since FROM replacing AS later
      UNION ALL
      SELECT -1, earlier.voucher_id, earlier.created_utc, earlier.is_active, earlier.missing_since FROM replaced AS earlier
    ) AS code
    GROUP BY 1, 2
    HAVING sum(code.sign) <> 0 OR sum(code.sign) FILTER (WHERE NOT code.is_active) <> 0
           OR sum(code.sign) FILTER (WHERE code.is_active AND code.missing_since IS NULL) <> 0;
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO sync.code_counts (voucher_id, created_month, issued, active, deleted)
    SELECT code.voucher_id, date_trunc('month', code.created_utc AT TIME ZONE 'UTC'), -count(*),
           -count(*) FILTER (WHERE code.is_active AND code.missing_since IS NULL),
           -count(*) FILTER (WHERE NOT code.is_active)
    FROM removed AS code GROUP BY 1, 2;
  ELSE
    -- Else what is just made one of many would stay: it is waited for by its old rows, and not among those seen here.
    LOCK TABLE sync.code_counts IN SHARE ROW EXCLUSIVE MODE;
    DELETE FROM sync.code_counts;
  END IF;
  RETURN NULL;
END $$;


-- Before a target is written: whose it is, and since when. Its note is as long as that of a change may be; one that is
-- longer since before there was a bound stays.
CREATE OR REPLACE FUNCTION sync.sign_target() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF char_length(NEW.note) > 10000 AND (TG_OP = 'INSERT' OR NEW.note IS DISTINCT FROM OLD.note) THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = format('note: has %s characters, 10000 are the most', char_length(NEW.note));
  END IF;
  NEW.changed_by := session_user;
  NEW.changed_at := now();
  RETURN NEW;
END $$;


-- Triggers: what calls them.
CREATE OR REPLACE TRIGGER count_added AFTER INSERT ON mews.voucher_codes
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION sync.count_codes();

CREATE OR REPLACE TRIGGER count_changed AFTER UPDATE ON mews.voucher_codes
REFERENCING OLD TABLE AS replaced NEW TABLE AS replacing FOR EACH STATEMENT EXECUTE FUNCTION sync.count_codes();

CREATE OR REPLACE TRIGGER count_removed AFTER DELETE ON mews.voucher_codes
REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION sync.count_codes();

CREATE OR REPLACE TRIGGER count_none AFTER TRUNCATE ON mews.voucher_codes
FOR EACH STATEMENT EXECUTE FUNCTION sync.count_codes();

CREATE OR REPLACE TRIGGER sign_target BEFORE INSERT OR UPDATE ON mews.voucher_targets
FOR EACH ROW EXECUTE FUNCTION sync.sign_target();

CREATE OR REPLACE TRIGGER keep_versions AFTER UPDATE ON mews.voucher_codes
REFERENCING OLD TABLE AS replaced NEW TABLE AS replacing FOR EACH STATEMENT EXECUTE FUNCTION sync.keep_versions();
