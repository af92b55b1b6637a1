"""Why a row is uncertain, how often it was blocked alone, and when it was first sent, stand in the row itself.

Until now the push read them from the history of its attempts. The release before this one goes on working: it knows
nothing of the columns, so a trigger fills them in for it. That nobody but the daemon writes them comes with 0011.
"""

from alembic import op
import sqlalchemy as sa

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLE = "voucher_code_outbox"
CHECKS = {
    "only_sent_rows_were_first_sent": "attempts > 0 OR first_sent_at IS NULL",
    "uncertain_because": "uncertain_because IN ('unknown', 'expired', 'unwritten', 'unlisted', 'refused')",
    "uncertain_rows_say_why": "(status = 'uncertain') = (uncertain_because IS NOT NULL)",
    "singled_out_when_blocked": "singled_out BETWEEN 0 AND blocked_alone",
    "blocked_when_sent": "blocked_alone <= attempts",
}

# The database tells the two apart by these words alone, which the release before writes.
REASON = """
CASE row.last_error
  WHEN 'the answer does not list it' THEN 'unlisted'
  WHEN 'the process that sent it ended before it had noted an answer' THEN 'expired'
  ELSE 'unknown' END
"""

# Rows that are done or cancelled are never sent again, so that nobody will ask; they are not written anew. A block counts
# that no failure came after.
FROM_HISTORY = f"""
WITH history AS (
  SELECT row.id, min(attempt.sent_at) AS first_sent_at,
         count(*) FILTER (WHERE attempt.is_block) AS blocked_alone,
         count(*) FILTER (WHERE attempt.is_block AND attempt.outcome = 'singled out') AS singled_out,
         max(attempt.outcome) FILTER (WHERE attempt.attempt_id = row.attempt_id) AS last_outcome
  FROM ONLY mews.voucher_code_outbox AS row LEFT JOIN (
    SELECT noted.*, noted.outcome IN ('blocked', 'singled out') AND NOT EXISTS (
      SELECT FROM mews.voucher_code_outbox_attempts AS failure
      WHERE failure.outbox_id = noted.outbox_id AND failure.outcome = 'refused' AND failure.sent_at >= noted.sent_at
    ) AS is_block
    FROM mews.voucher_code_outbox_attempts AS noted
  ) AS attempt ON attempt.outbox_id = row.id
  WHERE row.status IN ('pending', 'sending', 'uncertain', 'held', 'failed') AND (row.attempts > 0 OR row.status = 'uncertain')
  GROUP BY row.id
)
UPDATE ONLY mews.voucher_code_outbox AS row
SET first_sent_at = CASE WHEN row.attempts > 0 THEN least(row.sent_at, history.first_sent_at) END,
    blocked_alone = least(history.blocked_alone, row.attempts),
    singled_out = least(history.singled_out, row.attempts),
    uncertain_because = CASE WHEN row.status = 'uncertain' THEN
      CASE WHEN history.last_outcome IN ('unlisted', 'refused') THEN history.last_outcome ELSE {REASON} END END
FROM history WHERE row.id = history.id
"""

# What a row of this release says already is never changed. Where the release before finds a row refused whose past is
# unknown, it counts as unknown here: it is sent once more, and refused once more.
FILL_IN_STATE = """
CREATE FUNCTION sync.fill_in_state() RETURNS trigger
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
  IF NEW.status = 'failed' THEN
    NEW.blocked_alone := 0;
    NEW.singled_out := 0;
  END IF;
  RETURN NEW;
END $$
"""
TRIGGER = """
CREATE TRIGGER fill_in_state BEFORE UPDATE ON mews.voucher_code_outbox FOR EACH ROW
WHEN (NEW.status = 'sending' AND NEW.attempts > 0 AND NEW.first_sent_at IS NULL
      OR (NEW.status = 'uncertain') <> (NEW.uncertain_because IS NOT NULL)
      OR NEW.status = 'failed' AND NEW.blocked_alone > 0)
EXECUTE FUNCTION sync.fill_in_state()
"""

GRANT = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_writer') THEN
    GRANT INSERT (first_sent_at, uncertain_because, blocked_alone, singled_out),
          UPDATE (first_sent_at, uncertain_because, blocked_alone, singled_out)
      ON mews.voucher_code_outbox TO mews_writer;
  END IF;
END $$
"""


def columns() -> list[sa.Column]:
    return [
        sa.Column("first_sent_at", sa.DateTime(timezone=True), comment="When it was first sent, by this database's clock."),
        sa.Column(
            "uncertain_because",
            sa.Text(),
            comment="Why it is uncertain: unknown, expired, unwritten, unlisted or refused; null: it is not.",
        ),
        sa.Column(
            "blocked_alone",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="How often something on the way to the API blocked it alone since it last failed.",
        ),
        sa.Column(
            "singled_out",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="At how many of these times its neighbours went through.",
        ),
    ]


def upgrade() -> None:
    # What users have put off to the commit would keep the table from being altered once more.
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for column in columns():
        op.add_column(TABLE, column, schema="mews")
    op.execute("SELECT set_config('voucher_sync.daemon', 'on', true)")
    op.execute(FROM_HISTORY)
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"{TABLE}_{name}_check"), TABLE, condition, schema="mews")
    for statement in (FILL_IN_STATE, TRIGGER, GRANT):
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER fill_in_state ON mews.voucher_code_outbox")
    op.execute("DROP FUNCTION sync.fill_in_state()")
    for name in CHECKS:
        op.drop_constraint(op.f(f"{TABLE}_{name}_check"), TABLE, schema="mews")
    for column in columns():
        op.drop_column(TABLE, column.name, schema="mews")
