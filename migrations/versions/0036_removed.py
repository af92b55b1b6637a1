"""Who queues a change for a removed connection is told so at once; what a dead replica has reserved is free sooner.

The release before this one goes on working: such a row is pending, as it was; and what that release has reserved, or
sees of others, counts for as long as it did.
"""

from pathlib import Path

from alembic import op
import sqlalchemy as sa

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None

TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0029_taken_back.sql")


SILENT_FOR = "The same without a beat of the process in sync.daemons either; null: it counts whatever stands there."


def upgrade() -> None:
    op.add_column(
        "reservations", sa.Column("silent_for_ms", sa.BigInteger(), nullable=True, comment=SILENT_FOR), schema="sync"
    )
    _load(TRIGGERS)


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)
    op.drop_column("reservations", "silent_for_ms", schema="sync")


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
