"""Why a row is held, and which add a delete took back, stand in the row: nobody goes by the words of `last_error`.

The release before goes on working: it knows nothing of the columns, so the trigger that fills in what it does not know
says why a row is held, and takes that back once the row is not. So the constraint holds in both directions at once.

The table is locked for a moment, for the columns; that is committed before the rows are read, which may take long.
Whoever dies in between leaves columns that the next run finds.
"""

from pathlib import Path

from alembic import op
import sqlalchemy as sa

from sync.postgres.build_index import committed

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TABLE = "mews.voucher_code_outbox"
CHECKS = {
    "voucher_code_outbox_held_because_check": "held_because IN ('too_many_deletes', 'before_a_gap')",
    "voucher_code_outbox_held_rows_say_why_check": "(status = 'held') = (held_because IS NOT NULL)",
}
COMMENTS = {
    "held_because": (
        "Why it is held: too_many_deletes, or before_a_gap (queued before the database was restored, copied or lost "
        "commits); null: it is not."
    ),
    "took_back_id": "The add that a cancelled delete took back before that was sent, and had nothing else to do.",
}
TYPES = {"held_because": "text", "took_back_id": "bigint"}
TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0019_ordered_pairs.sql")
FILL_IN_STATE = "CREATE OR REPLACE TRIGGER fill_in_state "
SWITCHES = {"D": "DISABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}

GRANT = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_writer') THEN
    GRANT INSERT (held_because, took_back_id), UPDATE (held_because, took_back_id)
      ON mews.voucher_code_outbox TO mews_writer;
  END IF;
END $$
"""

# Until now the words alone told. Only what has them is written anew.
FROM_WORDS = """
UPDATE ONLY mews.voucher_code_outbox AS row
SET held_because = CASE WHEN row.status = 'held' THEN
      CASE WHEN starts_with(row.last_error, 'held, since the database was restored or has lost commits')
        THEN 'before_a_gap' ELSE 'too_many_deletes' END END,
    took_back_id = CAST(substring(row.last_error FROM '^took back the add in row ([0-9]{1,18}) ') AS bigint)
WHERE row.status = 'held' AND row.held_because IS NULL
   OR row.status = 'cancelled' AND row.operation = 'delete' AND row.took_back_id IS NULL
      AND row.last_error ~ '^took back the add in row [0-9]{1,18} '
"""


def upgrade() -> None:
    # What users have put off to the commit would keep the table from being altered.
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for name, type_ in TYPES.items():
        op.execute(f"ALTER TABLE {TABLE} ADD COLUMN IF NOT EXISTS {name} {type_}")
        op.execute(f"COMMENT ON COLUMN {TABLE}.{name} IS '{COMMENTS[name]}'")
    for name, condition in CHECKS.items():
        op.execute(f"ALTER TABLE {TABLE} DROP CONSTRAINT IF EXISTS {name}")
        op.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID")
    _load(TRIGGERS)
    op.execute(GRANT)
    with committed(op.get_bind()):
        pass
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    op.execute("SELECT set_config('voucher_sync.daemon', 'on', true)")
    op.execute(FROM_WORDS)
    for name in CHECKS:
        op.execute(f"ALTER TABLE {TABLE} VALIDATE CONSTRAINT {name}")


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)
    for name in CHECKS:
        op.execute(f"ALTER TABLE {TABLE} DROP CONSTRAINT {name}")
    for name in TYPES:
        op.execute(f"ALTER TABLE {TABLE} DROP COLUMN {name}")


def _load(version: Path) -> None:
    """The functions of a version of the triggers, and the one trigger that has changed, switched as it was."""
    functions, _, triggers = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
    is_it = "FROM pg_trigger WHERE tgname = 'fill_in_state' AND tgrelid = CAST(:table AS regclass)"
    switch = op.get_bind().scalar(sa.text(f"SELECT tgenabled::text {is_it}"), {"table": TABLE})
    op.execute(FILL_IN_STATE + triggers.partition(FILL_IN_STATE)[2])
    if switch in SWITCHES:
        op.execute(f"ALTER TABLE {TABLE} {SWITCHES[switch]} TRIGGER fill_in_state")
