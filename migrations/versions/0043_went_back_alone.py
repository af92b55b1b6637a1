"""A restored schema `mews` beside a schema `sync` as it was, and an outbox that was emptied and filled again, are noticed.

Who queues a change with an empty status, as Django does by a model that it made itself, leaves it open.

The release before this one goes on working: it looks up and holds what a gap is of, whoever has noted that.
"""

from pathlib import Path

from alembic import op
import sqlalchemy as sa

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None

TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0036_removed.sql")
OUTBOX_OID = "Number of the outbox there: restored by itself, it gets another."
EMPTIED_AT = "When the outbox was emptied by TRUNCATE: what was queued before is there again only from a backup."
FILL = """
UPDATE sync.incarnation SET outbox_oid = 'mews.voucher_code_outbox'::regclass::oid::bigint WHERE id IS NOT NULL
"""
TRIGGER = """
CREATE TRIGGER note_emptied BEFORE TRUNCATE ON mews.voucher_code_outbox
FOR EACH STATEMENT EXECUTE FUNCTION sync.note_emptied()
"""


def upgrade() -> None:
    op.add_column("incarnation", sa.Column("outbox_oid", sa.BigInteger(), comment=OUTBOX_OID), schema="sync")
    op.add_column(
        "incarnation", sa.Column("emptied_at", sa.DateTime(timezone=True), comment=EMPTIED_AT), schema="sync"
    )
    op.execute(FILL)
    _load(TRIGGERS)
    op.execute("REVOKE EXECUTE ON FUNCTION sync.note_emptied() FROM PUBLIC")
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER note_emptied ON mews.voucher_code_outbox")
    op.execute("DROP FUNCTION sync.note_emptied()")
    _load(TRIGGERS_BEFORE)
    op.drop_column("incarnation", "emptied_at", schema="sync")
    op.drop_column("incarnation", "outbox_oid", schema="sync")


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
