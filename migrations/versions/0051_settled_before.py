"""`settled_before` tells no instant that passes a transaction which the owner may not look into, or which has begun since
it was first asked in one transaction. And codes that are emptied by TRUNCATE leave no count, and
many versions are kept as quickly in a session that has kept a single one before.

The release before this one goes on as it is.
"""

from pathlib import Path

from alembic import op

revision = "0051"
down_revision = "0050"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).with_suffix(".sql")
FUNCTIONS_BEFORE = Path(__file__).with_name("0048_numbers_for_bi.sql")


def upgrade() -> None:
    _load(FUNCTIONS)


def downgrade() -> None:
    _load(FUNCTIONS_BEFORE)


def _load(version: Path) -> None:
    """The functions of a version; the triggers that call them stay as they are, and so do the rights to them."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
