"""What is due is looked for from where the last look was, which needs an index in the order of time.

The index of what waits for another row gets a condition that no other index has: with statistics of an outbox in which
nothing waits, any index of what is pending seemed as cheap, and some have all that was ever sent in front.
The release before goes on as it is.
"""

from alembic import op

from sync.postgres.build_index import build_index

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

TABLE = "mews.voucher_code_outbox"
NEXT = "voucher_code_outbox_next_idx"
NEXT_ONES = "(connection, next_attempt_at, id) WHERE left(status, 7) = 'pending'"
WAITING = "voucher_code_outbox_waiting_idx"
WAITING_ONES = "(after_id, id) WHERE after_id IS NOT NULL AND right(status, 7) = 'pending'"
WAITING_BEFORE = "(after_id, id) WHERE after_id IS NOT NULL AND status = 'pending'"


def upgrade() -> None:
    build_index(op.get_bind(), TABLE, f"mews.{NEXT}", NEXT_ONES, unique=False)
    build_index(op.get_bind(), TABLE, f"mews.{WAITING}_b", WAITING_ONES, unique=False)
    # The lock on the table is the last thing that is waited for, and held for a moment.
    op.execute(f"DROP INDEX mews.{WAITING}")
    op.execute(f"ALTER INDEX mews.{WAITING}_b RENAME TO {WAITING}")


def downgrade() -> None:
    op.execute(f"DROP INDEX mews.{NEXT}")
    op.execute(f"DROP INDEX mews.{WAITING}")
    op.execute(f"CREATE INDEX {WAITING} ON {TABLE} {WAITING_BEFORE}")
