"""Of a row of the outbox whose code's text was erased, a column tells since when; such a row is never sent again.

The release before this one goes on working: it knows nothing of the column, and the database refuses its retry of such a
row. The CHECK looks at the rows with no lock that a writer would wait for.
"""

from pathlib import Path

from alembic import op

from sync.postgres.build_index import committed

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TABLE = "mews.voucher_code_outbox"
CHECK = "voucher_code_outbox_erased_rows_rest_check"
COMMENT = "When the code''s text was erased; value says so in its place."
TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0023_operators.sql")

GRANT = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_writer') THEN
    GRANT INSERT (erased_at), UPDATE (erased_at) ON mews.voucher_code_outbox TO mews_writer;
  END IF;
END $$
"""


def upgrade() -> None:
    # Each step is one that a run which was killed behind the first commit finds done.
    op.execute(f"ALTER TABLE {TABLE} ADD COLUMN IF NOT EXISTS erased_at timestamptz")
    op.execute(f"COMMENT ON COLUMN {TABLE}.erased_at IS '{COMMENT}'")
    op.execute(f"ALTER TABLE {TABLE} DROP CONSTRAINT IF EXISTS {CHECK}")
    rests = "erased_at IS NULL OR status IN ('done', 'failed', 'cancelled')"
    op.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT {CHECK} CHECK ({rests}) NOT VALID")
    _load(TRIGGERS)
    op.execute(GRANT)
    with committed(op.get_bind()):
        pass
    op.execute(f"ALTER TABLE {TABLE} VALIDATE CONSTRAINT {CHECK}")


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)
    op.execute(f"ALTER TABLE {TABLE} DROP COLUMN erased_at")


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
