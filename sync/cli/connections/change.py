"""`voucher-sync connections add`, `import`, `pause`, `resume` and `reencrypt`."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from shlex import quote
from typing import TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.cli.connections.given import CHECKS, read_address, read_file, read_token
from sync.cli.database import with_database
from sync.cli.shapes import AddedConnections, BadCode, ChangedConnection, Reencrypted
from sync.cli.terminal import echo_json
from sync.core.plurals import plural
from sync.fleet import changes
from sync.fleet.changes import NewConnection, why_no_name
from sync.fleet.files import read_connections
from sync.fleet.tokens import TokenBox
from sync.fleet.webhooks import store
from sync.postgres.engine import in_transaction
from sync.settings import Settings, load_settings

R = TypeVar("R")
MAX_TOLD = 100


def add(
    name: str, access_token_file: str, client_token_file: str | None, platform_address: str | None, *, as_json: bool
) -> None:
    """Add one connection."""
    if reason := why_no_name(name):
        raise click.UsageError(f"the name {reason}")
    if {access_token_file, client_token_file} == {"-"}:
        raise click.UsageError("the standard input holds one token: give the other one in a file")
    address = read_address(platform_address) if platform_address else None
    access_token = read_token(access_token_file)
    client_token = read_token(client_token_file) if client_token_file else None
    settings = load_settings()
    new = NewConnection(name, address or settings.mews_platform_address, access_token, client_token)
    _add(settings, [new])
    _tell(name, f"{name} is added; `voucher-sync check --connection {quote(name)}` tries its tokens.", as_json=as_json)


def import_file(file: str, *, dry_run: bool, as_json: bool) -> None:
    """Add what a file names, or tell what is wrong with it, and exit with 1."""
    settings = load_settings()
    found, bad = read_connections(read_file(file), CHECKS, settings.mews_platform_address)
    if not bad:
        _add(settings, found, is_tried_only=dry_run)
    if as_json:
        told = [BadCode(one.line, one.reason) for one in bad[:MAX_TOLD]]
        echo_json(AddedConnections(0 if bad or dry_run else len(found), len(found), len(bad), told))
    else:
        for one in bad[:MAX_TOLD]:
            click.echo(f"line {one.line}: {one.reason}", err=True)
    if bad:
        click.echo(f"Error: {plural(len(bad), 'line')} cannot be used; nothing was added", err=True)
        sys.exit(1)
    if not as_json:
        click.echo(f"{plural(len(found), 'connection')} {'would be ' if dry_run else ''}added.")


def _add(settings: Settings, new: Sequence[NewConnection], *, is_tried_only: bool = False) -> None:
    if settings.mews_client_token is None and any(one.client_token is None for one in new):
        raise click.UsageError(
            "there is no client token: set MEWS_CLIENT_TOKEN, or give one with each connection (--client-token-file, "
            "or the column client_token)"
        )
    box = TokenBox(settings.secret_keys)
    work = changes.try_to_add if is_tried_only else changes.add
    _changed(settings, lambda tx: work(tx, box, new, "command"))


def pause(name: str, because: str | None, *, as_json: bool) -> None:
    """Stop all work for a connection."""
    changed = _changed(load_settings(), partial(changes.pause, name=name, because=because))
    _tell(name, f"{name} is paused." if changed else f"{name} was paused already.", changed=changed, as_json=as_json)


def resume(name: str, *, as_json: bool) -> None:
    """Go on with a connection."""
    changed = _changed(load_settings(), partial(changes.resume, name=name))
    _tell(name, f"{name} goes on." if changed else f"{name} was not paused.", changed=changed, as_json=as_json)


def reencrypt(*, as_json: bool) -> None:
    """Encrypt all tokens with the first key."""
    settings = load_settings()
    box = TokenBox(settings.secret_keys)

    async def work(tx: AsyncConnection) -> int:
        await store.reencrypt(tx, box)
        return await changes.reencrypt(tx, box)

    number = _changed(settings, work)
    if as_json:
        echo_json(Reencrypted(number))
    else:
        click.echo(f"The tokens of {plural(number, 'connection')} are encrypted with the first key of SYNC_SECRET_KEY.")


def _tell(name: str, words: str, *, changed: bool = True, as_json: bool) -> None:
    if as_json:
        echo_json(ChangedConnection(name, changed))
    else:
        click.echo(words)


def _changed(settings: Settings, change: Callable[[AsyncConnection], Awaitable[R]]) -> R:
    return with_database(settings, lambda engine: in_transaction(engine, change))
