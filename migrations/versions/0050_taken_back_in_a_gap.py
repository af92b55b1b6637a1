"""A delete that takes back an add from before a gap deletes what that may have made, also while the add is being held.

How the add was held was read before its row was waited for, so that a delete which met the hold was cancelled with it.

The release before this one goes on as it is.
"""

from pathlib import Path

from alembic import op

revision = "0050"
down_revision = "0049"
branch_labels = None
depends_on = None

TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0049_plain_words.sql")


def upgrade() -> None:
    _load(TRIGGERS)


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
