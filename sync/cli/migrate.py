"""`voucher-sync migrate`."""

import click

from sync.cli.database import open_database
from sync.db import migrations
from sync.settings import load_settings


def migrate() -> None:
    """Migrate, and tell from where to where."""
    with open_database(load_settings(), may_create=True) as url:
        before, after = migrations.migrate(url)
    if before == after:
        click.echo(f"The database is at revision {after} already.")
    else:
        click.echo(f"The database is at revision {after} now (before: {before or 'empty'}).")
