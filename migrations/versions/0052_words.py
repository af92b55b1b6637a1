"""What is notified of the outbox says whose changes they are, so that nobody else looks for them.

And what is said of priorities names the owner of the outbox, who alone may give one.

The release before this one takes each word for one to anybody.
"""

from pathlib import Path

from alembic import op

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None

TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0050_taken_back_in_a_gap.sql")
COMMENT = "COMMENT ON COLUMN mews.voucher_code_outbox.priority IS '{}'"
GIVEN_BY_OWNER = "What has a higher one goes first; the owner of the outbox gives it, and operators may change it."
GIVEN_BY_OPERATOR = "What has a higher one goes first; given by the operator."


def upgrade() -> None:
    _load(TRIGGERS)
    op.execute(COMMENT.format(GIVEN_BY_OWNER))


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)
    op.execute(COMMENT.format(GIVEN_BY_OPERATOR))


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
