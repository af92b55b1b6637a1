"""`voucher-sync migrate`."""

import click

from sync.cli.database import open_database
from sync.cli.shapes import Migrated
from sync.cli.terminal import echo_json
from sync.postgres import migrations
from sync.service.roles import look_for_roles
from sync.settings import load_settings


def migrate(*, as_json: bool) -> None:
    """Migrate, and tell from where to where."""
    with open_database(load_settings(), may_create=True) as url:
        before, after = migrations.migrate(url)
        unready = [role for role in look_for_roles(url) if not role.is_ready]
    if as_json:
        echo_json(Migrated(before, after, [role.name for role in unready]))
    elif before == after:
        click.echo(f"The database is at revision {after} already.")
    else:
        click.echo(f"The database is at revision {after} now (before: {before or 'empty'}).")
    if unready:
        names = " and ".join(role.name for role in unready)
        click.echo(f"Note: {names} cannot be used yet: run `voucher-sync roles`, which says what to do", err=True)
