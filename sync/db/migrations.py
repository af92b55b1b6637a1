"""Brings a database to this version's schema, from a checkout and from an installed wheel alike."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

import sync
from sync.db.engine import connect_options, translate
from sync.db.session import begin_by_statement
from sync.model.errors import NotMigrated

VERSION_TABLE_SCHEMA = "sync"


def migrate(database_url: str) -> tuple[str | None, str | None]:
    """Upgrade to the newest schema; the revisions before and after. Safe to run from several replicas at once.

    Raises `DatabaseError` in its variants.
    """
    try:
        with make_migration_engine(database_url).connect() as connection:
            before = current_revision(connection)
            connection.rollback()
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            return before, current_revision(connection)
    except DBAPIError as error:
        raise translate(error) from error
    except CommandError as error:
        raise NotMigrated(
            "a newer voucher-sync migrated the database, to a revision that this version does not know: run that one"
        ) from error


def is_known(revision: str | None) -> bool:
    """Whether this version knows a database's revision (None: never migrated)."""
    scripts = ScriptDirectory.from_config(_config())
    return revision is None or revision in {script.revision for script in scripts.walk_revisions()}


def revisions(database_url: str) -> tuple[str | None, str | None]:
    """The database's revision (None: never migrated), and the one that this version needs."""
    try:
        with make_migration_engine(database_url).connect() as connection:
            return current_revision(connection), ScriptDirectory.from_config(_config()).get_current_head()
    except DBAPIError as error:
        raise translate(error) from error


def make_migration_engine(database_url: str) -> Engine:
    """An engine without a pool, for one connection that does one thing."""
    options = {**connect_options(database_url), "autocommit": True}
    engine = create_engine("postgresql+psycopg://", connect_args=options, poolclass=NullPool, use_native_hstore=False)
    begin_by_statement(engine)
    return engine


def current_revision(connection: Connection) -> str | None:
    """The revision that a database stands at."""
    context = MigrationContext.configure(connection, opts={"version_table_schema": VERSION_TABLE_SCHEMA})
    return context.get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_script_location()).replace("%", "%%"))
    return config


def _script_location() -> Path:
    package = Path(sync.__file__).parent
    # In a wheel they lie inside the package, in a checkout beside it.
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"
