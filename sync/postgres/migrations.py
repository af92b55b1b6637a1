"""Brings a database to this version's schema, from a checkout and from an installed wheel alike."""

import random
import time

import psycopg
from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from sync.core.errors import DatabaseBusy, DatabaseError, DatabaseFull, StatementRefused
from sync.core.retry import Backoff
from sync.postgres.engine import connect_options, translate
from sync.postgres.locks import describe, holders
from sync.postgres.requirements import refuse_at_connect
from sync.postgres.schema_version import (
    current_revision,
    known_revisions,
    migrations_directory,
    refuse_unknown_revision,
)
from sync.postgres.session import begin_by_statement
from sync.postgres.sqlstates import BUSY

LOCK_TIMEOUT_S = 5.0
"""For one lock at a time."""
WAIT_S = 60.0
"""For somebody else's locks, for another replica that migrates just now, or for a session to be had."""
AGAIN_AFTER = Backoff(base_s=0.2, cap_s=2.0)
RACES = {"pg_namespace_nspname_index", "pg_class_relname_nsp_index", "pg_type_typname_nsp_index"}
"""Where two that make the same schema or table meet, `IF NOT EXISTS` notwithstanding."""


def migrate(database_url: str) -> tuple[str | None, str | None]:
    """Upgrade to the newest schema; the revisions before and after. Safe to run from several replicas at once.

    Raises `DatabaseError` in its variants.
    """
    engine = make_migration_engine(database_url)
    began_s, failures = time.monotonic(), 0
    while True:
        try:
            with engine.connect() as connection:
                return _migrate(connection)
        except DBAPIError as error:
            found = translate(error)
            if not (_is_passing(error) or isinstance(found, DatabaseFull)):
                raise _why_not(found) from error
            if time.monotonic() - began_s >= WAIT_S:
                raise (found if isinstance(found, DatabaseFull) else _who_is_in_the_way(engine)) from error
        failures += 1
        time.sleep(AGAIN_AFTER.pause_s(failures, random.Random()))  # noqa: S311 - spreads retries, keeps no secret


def _migrate(connection: Connection) -> tuple[str | None, str | None]:
    before = current_revision(connection)
    connection.rollback()
    refuse_unknown_revision(before)
    if before == known_revisions()[-1]:
        return before, before  # and nobody's lock is waited for
    _upgrade(connection)
    return before, current_revision(connection)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - takes long to load, and hardly ever is there anything to migrate
    from alembic.config import Config  # noqa: PLC0415 - for the same reason

    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _is_passing(error: DBAPIError) -> bool:
    cause = error.orig
    if isinstance(cause, psycopg.errors.UniqueViolation):
        return cause.diag.constraint_name in RACES
    return getattr(cause, "sqlstate", None) in BUSY


def _why_not(error: DatabaseError) -> DatabaseError:
    if type(error) not in (DatabaseError, StatementRefused):
        return error
    return DatabaseError(
        f"nothing was migrated: {error}. If that is something of your own, rename or drop it, then run "
        "`voucher-sync migrate` again"
    )


def _who_is_in_the_way(engine: Engine) -> DatabaseError:
    try:
        with engine.connect() as connection:
            found = holders(connection)
    except DBAPIError as error:
        return translate(error)
    who = f"{describe(found)}, then" if found else "Nobody holds them any more:"
    return DatabaseBusy(
        f"nothing was migrated: the locks that this needs were not free within {WAIT_S:g} s. {who} run "
        "`voucher-sync migrate` again"
    )


def revisions(database_url: str) -> tuple[str | None, str]:
    """The database's revision (None: never migrated), and the one that this version needs."""
    try:
        with make_migration_engine(database_url).connect() as connection:
            return current_revision(connection), known_revisions()[-1]
    except DBAPIError as error:
        raise translate(error) from error


def make_migration_engine(database_url: str) -> Engine:
    """An engine without a pool, for one connection that does one thing."""
    options = {**connect_options(database_url), "autocommit": True}
    engine = create_engine("postgresql+psycopg://", connect_args=options, poolclass=NullPool, use_native_hstore=False)
    refuse_at_connect(engine)
    begin_by_statement(engine)
    return engine
