"""Builds an index of a table in use, for a migration: no writer of the table is made to wait."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from sync.postgres.own_operators import look_into_no_schema_of_strangers
from sync.postgres.session import begin_again


def build_index(connection: Connection, table: str, name: str, definition: str, *, unique: bool = True) -> None:
    """Make the index `name` of `table`, both with their schema, unless a valid one is there.

    It is built outside of the migration's transaction (see `committed`). So whoever dies meanwhile leaves an invalid
    index, and the next run makes it anew. An empty table needs none of that. It waits for transactions that were open
    when it began. `definition` is what follows the table in CREATE INDEX.
    """
    if _is_valid(connection, name):
        return
    # Another replica's build holds this lock to its end: otherwise its index would look like one that a kill has left.
    connection.exec_driver_sql(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
    if _is_valid(connection, name):
        return
    connection.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
    short, kind = name.partition(".")[2], "UNIQUE INDEX" if unique else "INDEX"
    if not connection.scalar(text(f"SELECT EXISTS (SELECT FROM {table})")):  # noqa: S608 - a migration's own words
        connection.exec_driver_sql(f"CREATE {kind} {short} ON {table} {definition}")
        return
    with committed(connection):
        connection.exec_driver_sql(f"CREATE {kind} CONCURRENTLY IF NOT EXISTS {short} ON {table} {definition}")
    if not _is_valid(connection, name):
        _refuse_as_migrated_meanwhile(connection)


@contextmanager
def committed(connection: Connection) -> Iterator[None]:
    """Commit what a migration has done so far, and go on in a transaction of its own after the block.

    What ran before stands then, at the revision before this one: the next run must find its way from there. Raises the
    database's `lock_not_available`, by which a migration is tried again, where another replica has migrated meanwhile.
    """
    before = _revision(connection)
    connection.exec_driver_sql("COMMIT")
    yield
    begin_again(connection)
    look_into_no_schema_of_strangers(connection)
    alone(connection)
    if _revision(connection) != before:
        _refuse_as_migrated_meanwhile(connection)


def _refuse_as_migrated_meanwhile(connection: Connection) -> None:
    connection.exec_driver_sql(
        "DO $$ BEGIN RAISE lock_not_available USING MESSAGE = 'another replica has migrated meanwhile'; END $$"
    )


def alone(connection: Connection) -> None:
    """Wait until no other replica migrates, and keep them waiting until the end of the transaction.

    It is a lock that no stranger can take, unlike one of a number or a name; and it works through a pooler.
    """
    connection.exec_driver_sql("LOCK TABLE sync.alembic_version IN SHARE ROW EXCLUSIVE MODE")


def _is_valid(connection: Connection, name: str) -> bool:
    valid = text("SELECT indisvalid FROM pg_index WHERE indexrelid = CAST(to_regclass(:name) AS oid)")
    return bool(connection.scalar(valid, {"name": name}))


def _revision(connection: Connection) -> str | None:
    revision: str | None = connection.scalar(text("SELECT version_num FROM sync.alembic_version"))
    return revision
