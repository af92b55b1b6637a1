"""Operators, who move what others queued without being the owner; and each row says who last changed it by hand, and how.

The release before this one goes on working: it reads none of the columns, and what its users do fills them in too.
"""

from pathlib import Path

from alembic import op
import sqlalchemy as sa

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

TABLE = "voucher_code_outbox"
COLUMNS = (
    ("changed_by", sa.Text(), "Who last changed it by hand; null: nobody did."),
    ("changed_at", sa.DateTime(timezone=True), "When that was."),
    ("changed_how", sa.Text(), "How: released, retried, cancelled, edited, or taken back by a delete."),
)
TRIGGERS = Path(__file__).with_suffix(".sql")
TRIGGERS_BEFORE = Path(__file__).with_name("0020_held_because.sql")

# Roles are the whole server's, so it may stand already, and who migrates may not be allowed to make any.
ROLE = """
DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_operator') THEN
    BEGIN
      CREATE ROLE mews_operator NOLOGIN;
    EXCEPTION
      WHEN duplicate_object OR unique_violation THEN NULL;
      WHEN insufficient_privilege THEN
        RAISE NOTICE 'role mews_operator is not made: that takes CREATEROLE';
    END;
  END IF;
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_operator') THEN
    GRANT USAGE ON SCHEMA mews TO mews_operator;
    GRANT SELECT ON ALL TABLES IN SCHEMA mews TO mews_operator;
    ALTER DEFAULT PRIVILEGES IN SCHEMA mews GRANT SELECT ON TABLES TO mews_operator;
    GRANT UPDATE (status, not_before, note, priority) ON mews.voucher_code_outbox TO mews_operator;
  END IF;
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_writer') THEN
    GRANT INSERT (changed_by, changed_at, changed_how), UPDATE (changed_by, changed_at, changed_how)
      ON mews.voucher_code_outbox TO mews_writer;
  END IF;
END $$
"""
NO_ROLE = """
DO $$
BEGIN
  IF EXISTS (SELECT FROM pg_roles AS role WHERE role.rolname = 'mews_operator') THEN
    REVOKE ALL ON ALL TABLES IN SCHEMA mews FROM mews_operator;
    REVOKE UPDATE (status, not_before, note, priority) ON mews.voucher_code_outbox FROM mews_operator;
    REVOKE USAGE ON SCHEMA mews FROM mews_operator;
    ALTER DEFAULT PRIVILEGES IN SCHEMA mews REVOKE SELECT ON TABLES FROM mews_operator;
  END IF;
END $$
"""


def upgrade() -> None:
    # What users have put off to the commit would keep the table from being altered once more.
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for name, type_, comment in COLUMNS:
        op.add_column(TABLE, sa.Column(name, type_, comment=comment), schema="mews")
    op.execute(ROLE)
    _load(TRIGGERS)


def downgrade() -> None:
    _load(TRIGGERS_BEFORE)
    op.execute(NO_ROLE)
    for name, _, _ in COLUMNS:
        op.drop_column(TABLE, name, schema="mews")


def _load(version: Path) -> None:
    """The functions of a version of the triggers; the triggers themselves stay as they are."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
