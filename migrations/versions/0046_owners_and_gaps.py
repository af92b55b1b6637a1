"""An audit whose process has ended is known to be left; a gap holds each change once, whatever clocks say.

The release before this one goes on as it is: what audits it takes over are told to be nobody's, and waited for as
before; what it holds may be held once more by this one, after a clock went back.
"""

from pathlib import Path

from alembic import op
import sqlalchemy as sa

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0043_went_back_alone.sql")
OWNER_PROCESS = "The owner's name, and which process that is of which machine; null, or another's name: not known."
HELD_BY_GAP = "When the loss or copy was noticed for which it was last held before_a_gap: each holds it once."

# Writers may name every column, as mappers do that send all of them; the triggers say which may differ.
GRANT = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_writer') THEN
    GRANT INSERT (held_by_gap), UPDATE (held_by_gap) ON mews.voucher_code_outbox TO mews_writer;
  END IF;
END $$
"""


def upgrade() -> None:
    op.add_column("audits", sa.Column("owner_process", sa.Text(), comment=OWNER_PROCESS), schema="sync")
    new = sa.Column("held_by_gap", sa.DateTime(timezone=True), comment=HELD_BY_GAP)
    op.add_column("voucher_code_outbox", new, schema="mews")
    _load(TRIGGERS)
    op.execute(GRANT)


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)
    op.drop_column("voucher_code_outbox", "held_by_gap", schema="mews")
    op.drop_column("audits", "owner_process", schema="sync")


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
