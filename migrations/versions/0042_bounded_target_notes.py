"""The note beside a voucher's target is as long as that of a change may be.

Every text that users send has its bound, and here there was none. What stands already stays. The release before this one
goes on as it is.
"""

from pathlib import Path

from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

FUNCTIONS = Path(__file__).with_suffix(".sql")
FUNCTIONS_BEFORE = Path(__file__).with_name("0026_stock.sql")


def upgrade() -> None:
    _load(FUNCTIONS)


def downgrade() -> None:
    _load(FUNCTIONS_BEFORE)


def _load(version: Path) -> None:
    """The functions of a version; the triggers that call them stay as they are, and so do the rights to them."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
