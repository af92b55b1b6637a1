"""Every table of the database in one place: a table counts for Alembic only once its module has been imported."""

from sync.db import audit_tables, connection_tables, outbox_tables, run_tables, tables
from sync.db.metadata import metadata

__all__ = ["audit_tables", "connection_tables", "metadata", "outbox_tables", "run_tables", "tables"]
