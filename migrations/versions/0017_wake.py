"""Many who queue at once no longer wait for each other's commits: of them, only some notify.

Only functions change. The release before hears what is notified as this one does, and finds the rest by its slow poll.
"""

from pathlib import Path

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0014_collations.sql")


def upgrade() -> None:
    _load(TRIGGERS)


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
