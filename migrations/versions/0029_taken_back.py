"""A delete that takes back an add which is held since commits were lost stays, and deletes what that may have made.

The release before this one goes on working: such a delete is one that waits for the next pull.
"""

from pathlib import Path

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0024_erasure.sql")


def upgrade() -> None:
    _load(TRIGGERS)


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
