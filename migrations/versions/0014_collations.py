"""What keeps changes from being doubled compares texts byte by byte, whatever the operating system's collations become.

A new release of the C library or of ICU may sort differently. A unique index in the old order then misses rows that it
holds, and lets a second one in. Users may have views on the table, and while one uses a column its collation cannot be
changed; so the indexes have their own. Only an index can: the constraint of the key becomes one, by the same name.
"""

from pathlib import Path

from alembic import op

from sync.postgres.build_index import build_index

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TABLE = "mews.voucher_code_outbox"
KEY = "voucher_code_outbox_queued_by_key"
SAME_ADD = "voucher_code_outbox_same_add_queued_idx"
IS_QUEUED_ADD = "operation = 'add' AND status IN ('pending', 'sending', 'uncertain', 'held')"
BUILT = {
    KEY: '(queued_by COLLATE "C", idempotency_key COLLATE "C")',
    SAME_ADD: f'(voucher_id, value COLLATE "C") WHERE {IS_QUEUED_ADD}',
}
REPLACED = {KEY: f"ALTER TABLE {TABLE} DROP CONSTRAINT {KEY}", SAME_ADD: f"DROP INDEX mews.{SAME_ADD}"}
TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0011_outbox_triggers.sql")


def upgrade() -> None:
    for name, definition in BUILT.items():
        build_index(op.get_bind(), TABLE, f"mews.{name}_c", definition)
    # The old ones guard until here. The lock on the table is the last thing that is waited for, and held for a moment.
    for name, statement in REPLACED.items():
        op.execute(statement)
        op.execute(f"ALTER INDEX mews.{name}_c RENAME TO {name}")
    _load(TRIGGERS)


def downgrade() -> None:
    op.execute(f"DROP INDEX mews.{KEY}")
    op.execute(f"ALTER TABLE {TABLE} ADD CONSTRAINT {KEY} UNIQUE (queued_by, idempotency_key)")
    op.execute(f"DROP INDEX mews.{SAME_ADD}")
    op.execute(f"CREATE UNIQUE INDEX {SAME_ADD} ON {TABLE} (voucher_id, value) WHERE {IS_QUEUED_ADD}")
    _load(TRIGGERS_BEFORE)


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
