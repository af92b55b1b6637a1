"""Whoever may read schema `mews` may dump it: `pg_dump` reads its sequences too.

And no hotel's time zone is taken for a rule of POSIX, whose signs are the other way round.

The release before this one goes on as it is.
"""

from pathlib import Path

from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None

# Writers have had that of the outbox since they may number their rows themselves.
EACH_ROLE = """
DO $$
DECLARE name text;
BEGIN
  FOR name IN SELECT role.rolname FROM pg_roles AS role
              WHERE role.rolname IN ('mews_reader', 'mews_writer', 'mews_operator') LOOP
    {statements}
  END LOOP;
END $$
"""
GRANT = """
    EXECUTE format('GRANT SELECT ON mews.voucher_code_outbox_id_seq, mews.voucher_code_versions_id_seq TO %I', name);
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA mews GRANT SELECT ON SEQUENCES TO %I', name);
"""
REVOKE = """
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA mews REVOKE SELECT ON SEQUENCES FROM %I', name);
    EXECUTE format('REVOKE SELECT ON mews.voucher_code_versions_id_seq FROM %I', name);
    IF name <> 'mews_writer' THEN
      EXECUTE format('REVOKE SELECT ON mews.voucher_code_outbox_id_seq FROM %I', name);
    END IF;
"""
FUNCTIONS = Path(__file__).with_suffix(".sql")
FUNCTIONS_BEFORE = Path(__file__).with_name("0042_bounded_target_notes.sql")


def upgrade() -> None:
    op.execute(EACH_ROLE.format(statements=GRANT))
    _load(FUNCTIONS)


def downgrade() -> None:
    _load(FUNCTIONS_BEFORE)
    op.execute(EACH_ROLE.format(statements=REVOKE))


def _load(version: Path) -> None:
    """The functions of a version; the triggers that call them stay as they are, and so do the rights to them."""
    functions, _, _ = version.read_text(encoding="utf-8").partition("-- Triggers: ")
    op.execute(functions)
