"""Every table of the database in one place: a table counts for Alembic only once its module has been imported."""

from sync.alerts import tables as alert_tables
from sync.audit import tables as audit_tables
from sync.connection import tables as connection_tables
from sync.fleet import event_tables
from sync.fleet import tables as fleet_tables
from sync.mirror import tables as mirror_tables
from sync.outbox import tables as outbox_tables
from sync.postgres.metadata import metadata
from sync.service import tables as service_tables

__all__ = [
    "alert_tables",
    "audit_tables",
    "connection_tables",
    "event_tables",
    "fleet_tables",
    "metadata",
    "mirror_tables",
    "outbox_tables",
    "service_tables",
    "triggers",
]


def triggers() -> list[tuple[str, str]]:
    """Every trigger of ours: its table, and its name."""
    of_outbox = [(outbox_tables.outbox.fullname, name) for name in outbox_tables.TRIGGERS]
    of_codes = [(mirror_tables.voucher_codes.fullname, name) for name in mirror_tables.TRIGGERS]
    of_connections = [(connection_tables.connections.fullname, name) for name in connection_tables.CONNECTION_TRIGGERS]
    return [*of_outbox, *of_codes, *of_connections, (mirror_tables.voucher_targets.fullname, "sign_target")]
