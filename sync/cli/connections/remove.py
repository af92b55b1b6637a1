"""`voucher-sync connections remove`."""

import sys
from shlex import quote

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.database import with_database
from sync.cli.shapes import RemovedConnection
from sync.cli.terminal import echo_json
from sync.core.plurals import plural
from sync.fleet import changes
from sync.fleet.purge import purge as purge_rows
from sync.fleet.registry import CONNECTION_NAME, load_present
from sync.postgres.engine import in_transaction
from sync.settings import load_settings


def remove(name: str, *, purge: bool, is_meant: bool, as_json: bool) -> None:
    """Take a connection out, and delete what it has mirrored if that is asked for."""
    settings = load_settings()
    if name == CONNECTION_NAME and settings.mews_access_token is not None:
        raise click.UsageError(f"the tokens of {name} are the environment's: unset MEWS_ACCESS_TOKEN first")
    if purge and not is_meant:
        if not sys.stdin.isatty():
            raise click.UsageError(
                "--purge deletes all that was mirrored, with its history: give --yes if that is meant"
            )
        click.confirm(f"Delete all that {name} has mirrored, with its history?", abort=True, err=True)
    deleted = with_database(settings, lambda engine: _remove(engine, name, purge=purge))
    if as_json:
        echo_json(RemovedConnection(name, deleted if purge else None))
        return
    click.echo(f"{name} is removed, and its tokens are forgotten.")
    if purge:
        click.echo(f"{plural(deleted, 'code')} deleted; what other connections see stays.")
    else:
        purging = f"voucher-sync connections remove {quote(name)} --purge"
        click.echo(f"What it has mirrored stays; `{purging}` deletes that too.")


async def _remove(engine: AsyncEngine, name: str, *, purge: bool) -> int:
    present = {one.name for one in await in_transaction(engine, load_present)}
    if name in present or not purge:
        await in_transaction(engine, lambda tx: changes.remove(tx, name))
    return await purge_rows(engine, name) if purge else 0
