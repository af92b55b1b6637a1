"""The outbox's triggers come from one file, whose functions are named for what they do."""

from pathlib import Path

from alembic import context, op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

VERSION = Path(__file__).with_suffix(".sql")
RENAMED = {"change_row": "check_update", "tell_queued": "warn_and_wake"}
# No trigger has called them since 0007, and only the way back below it needs them.
UNUSED = {
    "check_outbox_insert": ("0002", "CHECK_INSERT"),
    "check_outbox_update": ("0002", "CHECK_UPDATE"),
    "wake_outbox": ("0002", "WAKE"),
    "complete_outbox_insert": ("0006", "COMPLETE_INSERT"),
}


def upgrade() -> None:
    # Triggers call a function by its number. So a function that is renamed and replaced keeps its triggers, its owner and
    # its grants, and no writer is waited for. Only a migration that changes a trigger loads the triggers too: that takes
    # a lock on the table, and switches on again what its owner has switched off.
    for before, after in RENAMED.items():
        op.execute(f"ALTER FUNCTION sync.{before}() RENAME TO {after}")
    functions, _, _ = VERSION.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
    for function in UNUSED:
        op.execute(f"DROP FUNCTION sync.{function}()")


def downgrade() -> None:
    for before, after in RENAMED.items():
        op.execute(f"ALTER FUNCTION sync.{after}() RENAME TO {before}")
    for name in ("QUEUE_CHANGE", "CHANGE_ROW", "TELL_QUEUED"):
        op.execute(_text("0007", name).replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    for revision_and_name in UNUSED.values():
        op.execute(_text(*revision_and_name))


def _text(of_revision: str, name: str) -> str:
    """The statement of an earlier migration."""
    return str(getattr(context.script.get_revision(of_revision).module, name))
