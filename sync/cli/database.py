"""The database of a command: the one in the settings, or the embedded one."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from psycopg.errors import Diagnostic
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli import event_loop
from sync.cli.extra import require_extra
from sync.core.errors import SettingsError
from sync.postgres.engine import make_engine
from sync.postgres.migrations import migrate
from sync.postgres.schema_version import require_schema
from sync.settings import Settings

Result = TypeVar("Result")


@contextmanager
def open_database(settings: Settings, *, may_create: bool = False) -> Iterator[str]:
    """The database's URL, usable while the block runs.

    Without a DATABASE_URL this starts the embedded PostgreSQL, says so, and migrates it: nobody else looks after it.
    Who only asks or queues makes none: whoever forgot the DATABASE_URL would be told of an empty database, and not of
    that. `SettingsError` where there is none yet and `may_create` is not set, and where its package is not installed.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    require_extra("DATABASE_URL is not set: set it; the embedded PostgreSQL, used in place of one,")
    from sync.postgres import embedded

    directory = embedded.default_directory()
    if not may_create and not embedded.is_initialised(directory):
        raise SettingsError(
            f"DATABASE_URL is not set, and there is no embedded PostgreSQL in {directory} yet: set it, "
            f"or make one with `voucher-sync migrate`, `once` or `run`"
        )
    click.echo(f"No DATABASE_URL is set: using the embedded PostgreSQL in {directory}", err=True)
    embedded.forget_libpq_variables()
    with embedded.embedded_postgres(directory) as url:
        migrate(url)
        yield url


def with_database(settings: Settings, work: Callable[[AsyncEngine], Awaitable[Result]]) -> Result:
    """Does `work` with the database of the settings."""
    with open_database(settings) as url:
        return event_loop.run(_with_engine(url, work))


async def _with_engine(url: str, work: Callable[[AsyncEngine], Awaitable[Result]]) -> Result:
    engine = make_engine(url)
    require_schema(engine)
    event.listen(engine.sync_engine, "connect", _tell_warnings)
    try:
        return await work(engine)
    finally:
        await engine.dispose()


def _tell_warnings(dbapi_connection: Any, _record: object) -> None:
    """What the outbox's triggers say of rows that are queued all the same."""

    def tell(diagnostic: Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            click.echo(f"Note: {diagnostic.message_primary}", err=True)

    dbapi_connection.driver_connection.add_notice_handler(tell)


def revive_embedded() -> None:
    """Start the embedded PostgreSQL again, should it have died under this process. Raises `DatabaseUnavailable`."""
    from sync.postgres import embedded

    with embedded.embedded_postgres(embedded.default_directory()):
        pass  # it goes on, since this process uses it already
