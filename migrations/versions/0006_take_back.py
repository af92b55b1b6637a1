"""A delete that takes back an unsent add still deletes the code that stands, and an empty key is no key."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Comes after check_insert, which has cancelled the delete together with the add: triggers fire in the order of their
# names. An earlier delete that is still to be made is for the code that stands, and leaves this one nothing.
COMPLETE_INSERT = """
CREATE FUNCTION sync.complete_outbox_insert() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NEW.idempotency_key = '' THEN
    RAISE EXCEPTION USING ERRCODE = 'check_violation',
      MESSAGE = 'idempotency_key: is empty, so that every later change with an empty one would queue nothing; '
                'leave it out, or give each change a key of its own';
  END IF;
  IF EXISTS (SELECT FROM mews.voucher_codes AS code
             WHERE (code.voucher_id, code.value) = (NEW.voucher_id, NEW.value) AND code.is_active)
     AND NOT EXISTS (SELECT FROM mews.voucher_code_outbox AS earlier
                     WHERE earlier.operation = 'delete' AND earlier.status IN ('pending', 'sending', 'uncertain', 'held')
                       AND (earlier.voucher_id, earlier.value) = (NEW.voucher_id, NEW.value)) THEN
    NEW.status := 'pending';
    NEW.finished_at := NULL;
    NEW.last_error := NULL;
  END IF;
  RETURN NEW;
END $$
"""
TRIGGER = """
CREATE TRIGGER complete_insert BEFORE INSERT ON mews.voucher_code_outbox FOR EACH ROW
WHEN (NEW.status = 'cancelled' OR NEW.idempotency_key = '') EXECUTE FUNCTION sync.complete_outbox_insert()
"""


def upgrade() -> None:
    op.execute(COMPLETE_INSERT)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER complete_insert ON mews.voucher_code_outbox")
    op.execute("DROP FUNCTION sync.complete_outbox_insert()")
