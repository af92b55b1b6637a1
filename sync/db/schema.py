"""Every table of the database in one place: a table counts for Alembic only once its module has been imported."""

from sync.db import audit_tables, outbox_tables
from sync.db.tables import metadata

__all__ = ["audit_tables", "metadata", "outbox_tables"]
