"""How Alembic reaches the database: `sync.postgres.migrations` hands a connection in; developers set DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.schema import SchemaItem

from sync.postgres import migrations
from sync.postgres.build_index import alone
from sync.postgres.own_operators import look_into_no_schema_of_strangers
from sync.schema import metadata

BEFORE = (
    # A migration that waits for a table behind a BI query makes everyone else wait behind itself: not for long, then it
    # is tried again.
    f"SET LOCAL lock_timeout = '{migrations.LOCK_TIMEOUT_S}s'",
    # A site's own default may be a kind of table that knows no UPDATE.
    "SET LOCAL default_table_access_method = heap",
    "CREATE SCHEMA IF NOT EXISTS sync",
    "CREATE TABLE IF NOT EXISTS sync.alembic_version ("
    "version_num varchar(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
)


def is_ours(item: SchemaItem, name: str | None, kind: str, reflected: bool, compare_to: SchemaItem | None) -> bool:
    """Leave out the tables of others, which may stand in the same database."""
    schema = getattr(item, "schema", None)
    return kind != "table" or (schema in {"mews", "sync"} and name != "alembic_version")


def run(connection: Connection) -> None:
    """Run what the Alembic command asks for, in one transaction, but for indexes of tables in use."""
    with connection.begin():
        look_into_no_schema_of_strangers(connection)
        for statement in BEFORE:
            connection.execute(text(statement))
        # Every replica may migrate at its start: the first one in does it, the others wait here and find nothing to do.
        alone(connection)
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
    with migrations.make_migration_engine(os.environ["DATABASE_URL"]).connect() as own:
        run(own)
