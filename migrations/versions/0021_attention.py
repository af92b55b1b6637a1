"""What is held or has failed is found without reading all that is finished: an index that other changes never enter."""

from alembic import op

from sync.postgres.build_index import build_index

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TABLE = "mews.voucher_code_outbox"
NAME = "mews.voucher_code_outbox_attention_idx"


def upgrade() -> None:
    definition = "(connection, status, finished_at) WHERE status IN ('held', 'failed')"
    build_index(op.get_bind(), TABLE, NAME, definition, unique=False)


def downgrade() -> None:
    op.execute(f"DROP INDEX {NAME}")
