-- The triggers of sync.connections that are in force: they tell who works here that the set of connections has changed.
--
-- To change one: edit it here, copy the whole file to the name of a new migration with .sql behind it, and let that
-- migration load the copy, as migrations/versions/0030_registry.py does. What was released is never edited.
-- tests/migrations/test_triggers.py compares this file with the newest copy and with a migrated database.


-- After each row that makes another set of connections: wake who listens. A heartbeat and a change of state do not, since
-- each would wake every replica.
--
-- Replicas look every few seconds anyway, so a notification that cannot be sent must not cost the change: somebody who
-- listens and never reads fills the queue for all. Of those of one transaction that say the same, PostgreSQL sends one.
CREATE OR REPLACE FUNCTION sync.tell_of_connections() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF coalesce(current_setting('voucher_sync.notify', true), '') <> 'off' AND pg_notification_queue_usage() < 0.5 THEN
    PERFORM pg_notify('voucher_sync_connections', '');
  END IF;
  RETURN NULL;
END $$;


-- Triggers: what calls it. They are for each row, since INSERT ... ON CONFLICT DO UPDATE, as of a heartbeat, calls those
-- for each statement even where it inserts nothing.
CREATE OR REPLACE TRIGGER tell_of_another AFTER INSERT OR DELETE ON sync.connections
FOR EACH ROW EXECUTE FUNCTION sync.tell_of_connections();

CREATE OR REPLACE TRIGGER tell_of_change AFTER UPDATE ON sync.connections FOR EACH ROW
WHEN (ROW(OLD.name, OLD.origin, OLD.platform_address, OLD.access_token, OLD.client_token, OLD.paused_at, OLD.removed_at)
      IS DISTINCT FROM
      ROW(NEW.name, NEW.origin, NEW.platform_address, NEW.access_token, NEW.client_token, NEW.paused_at, NEW.removed_at))
EXECUTE FUNCTION sync.tell_of_connections();
