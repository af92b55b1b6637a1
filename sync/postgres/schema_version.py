"""Which revision a database stands at, and whether this version may work on it.

Without Alembic, which takes long to load: a revision is the number at the head of its migration's file name.
"""

from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

import sync
from sync.core.errors import MigratedFurther, NotMigrated

REVISION = "SELECT version_num FROM sync.alembic_version"
HAS_REVISION = "SELECT to_regclass('sync.alembic_version') IS NOT NULL"


def migrations_directory() -> Path:
    """Where the migrations are."""
    package = Path(sync.__file__).parent
    # In a wheel they lie inside the package, in a checkout beside it.
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


@cache
def known_revisions() -> list[str]:
    """Every revision that this version knows, the one it needs last."""
    return sorted(path.name.partition("_")[0] for path in (migrations_directory() / "versions").glob("[0-9]*_*.py"))


def current_revision(connection: Connection) -> str | None:
    """The revision that a database stands at; None: it was never migrated."""
    # Asked for a table that is not there, the transaction would be lost.
    is_there = connection.execute(text(HAS_REVISION)).scalar_one()
    return connection.execute(text(REVISION)).scalar() if is_there else None


def refuse_unknown_revision(at: str | None) -> None:
    """Raise `MigratedFurther` for a revision that only a newer version can have made."""
    if at is not None and at not in known_revisions():
        raise MigratedFurther(
            f"a newer voucher-sync migrated the database, to revision {at}, which this version does not know "
            f"(it needs {known_revisions()[-1]}): run that one"
        )


def refuse_other_revision(at: str | None) -> None:
    """Raise `NotMigrated` unless a database stands at the revision that this version needs."""
    refuse_unknown_revision(at)
    needed = known_revisions()[-1]
    if at != needed:
        where = f"it is at revision {at or 'none'}, and {needed} is needed"
        raise NotMigrated(f"the database is not migrated to this version ({where}): run `voucher-sync migrate`")


def require_schema(engine: AsyncEngine) -> None:
    """Let an engine open no session on another schema than this version's, until it has found it once.

    A process that runs goes on while a newer release migrates: what it needs stays, for as long as that takes.
    """
    is_found = False

    def look(dbapi_connection: Any, _record: object) -> None:
        nonlocal is_found
        if is_found:
            return
        try:
            refuse_other_revision(_revision(dbapi_connection))
        except BaseException:
            dbapi_connection.close()
            raise
        is_found = True

    event.listen(engine.sync_engine, "connect", look)


def _revision(dbapi_connection: Any) -> str | None:
    cursor = dbapi_connection.cursor()
    try:
        cursor.execute(REVISION)
        row = cursor.fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    except psycopg.errors.InsufficientPrivilege:
        # A user's role, whose rights end at schema mews, and whom its rules guard.
        return known_revisions()[-1]
    finally:
        cursor.close()
    return row[0] if row else None
