"""How Alembic reaches the database: `sync.db.migrations` hands a connection in; developers set DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.schema import SchemaItem

from sync.db.migrations import make_migration_engine
from sync.db.schema import metadata

# Every replica may migrate at its start: the first one in does it, the others wait here and find nothing left to do.
# Held to the end of the transaction, so that it works through a transaction pooler too.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('voucher-sync migrations'))"
# A migration that waits for a table behind a BI query would make everyone else wait behind itself.
LOCK_TIMEOUT = "SET LOCAL lock_timeout = '30s'"


def is_ours(item: SchemaItem, name: str | None, kind: str, reflected: bool, compare_to: SchemaItem | None) -> bool:
    """Leave out the tables of others, which may stand in the same database."""
    schema = getattr(item, "schema", None)
    return kind != "table" or (schema in {"mews", "sync"} and name != "alembic_version")


def run(connection: Connection) -> None:
    """Run what the Alembic command asks for, in one transaction."""
    with connection.begin():
        connection.execute(text(LOCK))
        connection.execute(text(LOCK_TIMEOUT))
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS sync"))
        context.configure(
            connection=connection,
            target_metadata=metadata,
            version_table_schema="sync",
            include_schemas=True,
            include_object=is_ours,
            compare_server_default=True,
        )
        context.run_migrations()


if given := context.config.attributes.get("connection"):
    run(given)
else:
    with make_migration_engine(os.environ["DATABASE_URL"]).connect() as own:
        run(own)
