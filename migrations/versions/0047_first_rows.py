"""Rows that were put into a database before anybody has worked with it are noticed; empty texts are as good as null.

The release before this one goes on working: it does not look at when a database was empty before its first work.
"""

from pathlib import Path

from alembic import op

revision = "0047"
down_revision = "0046"
branch_labels = None
depends_on = None

TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0046_owners_and_gaps.sql")
EMPTIED_AT = (
    "When the outbox was emptied by TRUNCATE, or was empty before its first work: what was queued before comes from "
    "elsewhere."
)
EMPTIED_AT_BEFORE = (
    "When the outbox was emptied by TRUNCATE: what was queued before is there again only from a backup."
)
FILL = """
UPDATE sync.incarnation SET emptied_at = clock_timestamp()
WHERE id IS NULL AND NOT EXISTS (SELECT FROM mews.voucher_code_outbox)
"""


def upgrade() -> None:
    op.alter_column("incarnation", "emptied_at", schema="sync", comment=EMPTIED_AT)
    op.execute(FILL)
    _load(TRIGGERS)


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)
    op.execute("UPDATE sync.incarnation SET emptied_at = NULL WHERE id IS NULL")
    op.alter_column("incarnation", "emptied_at", schema="sync", comment=EMPTIED_AT_BEFORE)


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
