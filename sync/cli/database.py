"""The database of a command: the one in the settings, or the embedded one."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from sync.core.errors import SettingsError
from sync.postgres.embedded import default_directory, embedded_postgres, forget_libpq_variables, is_initialised
from sync.postgres.migrations import migrate
from sync.settings import Settings


@contextmanager
def open_database(settings: Settings, *, may_create: bool = False) -> Iterator[str]:
    """The database's URL, usable while the block runs.

    Without a DATABASE_URL this starts the embedded PostgreSQL, says so, and migrates it: nobody else looks after it.
    Who only asks or queues makes none: whoever forgot the DATABASE_URL would be told of an empty database, and not of
    that. `SettingsError` where there is none yet and `may_create` is not set.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
        return
    directory = default_directory()
    if not may_create and not is_initialised(directory):
        raise SettingsError(
            f"DATABASE_URL is not set, and there is no embedded PostgreSQL in {directory} yet: set it, "
            f"or make one with `voucher-sync migrate`, `once` or `run`"
        )
    click.echo(f"No DATABASE_URL is set: using the embedded PostgreSQL in {directory}", err=True)
    forget_libpq_variables()
    with embedded_postgres(directory) as url:
        migrate(url)
        yield url


def revive_embedded() -> None:
    """Start the embedded PostgreSQL again, should it have died under this process. Raises `DatabaseUnavailable`."""
    with embedded_postgres(default_directory()):
        pass  # it goes on, since this process uses it already
