"""A change may wait until another is done: mews.voucher_code_outbox has after_id.

The release before this one goes on working: it never finds a row due that waits, and leaves it for this one. Its pruning
passes a row that another names. The column is empty, so that its foreign key needs no look at the rows; the CHECK looks
at them with no lock that a writer would wait for, and the indexes are built outside of the transaction.
"""

from pathlib import Path

from alembic import op

from sync.postgres.build_index import build_index

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

TABLE = "mews.voucher_code_outbox"
FOREIGN_KEY = "voucher_code_outbox_after_id_fkey"
CHECK = "voucher_code_outbox_after_an_earlier_row_check"
COMMENT = "The row that must be done before this one is sent; null: none."
INDEXES = {
    "voucher_code_outbox_after_id_idx": "(after_id) WHERE after_id IS NOT NULL",
    "voucher_code_outbox_waiting_idx": "(after_id, id) WHERE after_id IS NOT NULL AND status = 'pending'",
}
TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0017_wake.sql")

GRANT = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_writer') THEN
    GRANT INSERT (after_id), UPDATE (after_id) ON mews.voucher_code_outbox TO mews_writer;
  END IF;
END $$
"""


def upgrade() -> None:
    # Each step is one that a run which was killed behind the first index finds done.
    op.execute(
        f"ALTER TABLE {TABLE} ADD COLUMN IF NOT EXISTS after_id bigint CONSTRAINT {FOREIGN_KEY} REFERENCES {TABLE} (id)"
    )
    op.execute(f"COMMENT ON COLUMN {TABLE}.after_id IS '{COMMENT}'")
    op.execute(f"ALTER TABLE {TABLE} DROP CONSTRAINT IF EXISTS {CHECK}")
    op.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT {CHECK} CHECK (after_id < id) NOT VALID")
    _load(TRIGGERS)
    for name, definition in INDEXES.items():
        build_index(op.get_bind(), TABLE, f"mews.{name}", definition, unique=False)
    op.execute(f"ALTER TABLE {TABLE} VALIDATE CONSTRAINT {CHECK}")
    op.execute(GRANT)


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)
    op.execute(f"ALTER TABLE {TABLE} DROP COLUMN after_id")


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
