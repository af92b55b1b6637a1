"""`voucher-sync connections` as it is called; what each command does is imported when it is called."""

from collections.abc import Callable
from typing import Any

import click

from sync.cli.groups import Group
from sync.cli.loading import loading
from sync.cli.options import CONNECTION, WORDS, option_json

FILE = click.Path(dir_okay=False, allow_dash=True)
CLIENT_TOKEN_FILE = click.option(
    "--client-token-file",
    type=FILE,
    help="A file with the client token, where it is not MEWS_CLIENT_TOKEN; - for the standard input.",
)


def _access_token_file(command: Callable[..., Any]) -> Callable[..., Any]:
    words = "A file with the access token, or - for the standard input: a token on a command line is seen by others."
    return click.option("--access-token-file", type=FILE, required=True, help=words)(command)


@click.group(cls=Group)
def connections() -> None:
    """Keep the connections of many hotels.

    They are kept in the database, their tokens encrypted by SYNC_SECRET_KEY. Daemons that run notice a change within
    seconds. The connection whose tokens the environment has is `default`, and needs none of this.
    """


@connections.command()
@click.argument("name", type=CONNECTION)
@_access_token_file
@CLIENT_TOKEN_FILE
@click.option("--platform-address", help="The API's base address. Default: MEWS_PLATFORM_ADDRESS.")
@option_json
def add(
    name: str, access_token_file: str, client_token_file: str | None, platform_address: str | None, as_json: bool
) -> None:
    """Add a connection. `voucher-sync check --connection NAME` tries its tokens.

    \b
    Example:
      voucher-sync connections add lake --access-token-file /run/secrets/lake
    """
    with loading():
        from sync.cli.connections.change import add as work

    work(name, access_token_file, client_token_file, platform_address, as_json=as_json)


@connections.command("import")
@click.argument("file", type=FILE)
@click.option("--dry-run", is_flag=True, help="Tell what would be wrong, and add nothing.")
@option_json
def import_file(file: str, dry_run: bool, as_json: bool) -> None:
    """Add the connections of a CSV file, all or none.

    FILE is its name, or - for the standard input. Its first line names the columns: name, access_token, and if wanted
    client_token and platform_address. The text is UTF-8, or the UTF-16 of "Unicode text".
    """
    with loading():
        from sync.cli.connections.change import import_file as work

    work(file, dry_run=dry_run, as_json=as_json)


@connections.command("list")
@option_json
def list_connections(as_json: bool) -> None:
    """List the connections, and how each is doing.

    Its state, how late it is, which process works for it, and why it is paused. Off a terminal each is a line with
    tabs: name, origin, state, seconds behind, owner, paused because, address.
    """
    with loading():
        from sync.cli.connections.show import list_connections as work

    work(as_json=as_json)


@connections.command()
@click.argument("name", type=CONNECTION)
@click.option("--because", type=WORDS, help="Why, for people.")
@option_json
def pause(name: str, because: str | None, as_json: bool) -> None:
    """Read nothing and send nothing for a connection, until `resume`. What is queued waits."""
    with loading():
        from sync.cli.connections.change import pause as work

    work(name, because, as_json=as_json)


@connections.command()
@click.argument("name", type=CONNECTION)
@option_json
def resume(name: str, as_json: bool) -> None:
    """Go on with a paused connection, where it stopped."""
    with loading():
        from sync.cli.connections.change import resume as work

    work(name, as_json=as_json)


@connections.command()
@click.argument("name", type=CONNECTION)
@_access_token_file
@CLIENT_TOKEN_FILE
@click.option("--accept-enterprises", is_flag=True, help="The new token sees other hotels, and that is meant.")
@option_json
def rotate(
    name: str, access_token_file: str, client_token_file: str | None, accept_enterprises: bool, as_json: bool
) -> None:
    """Give a connection a new token, without a gap.

    It is tried first, and counts only if the API takes it and it sees the same hotels. Until then, and where it is
    refused, the one before stays.
    """
    with loading():
        from sync.cli.connections.rotate import rotate as work

    work(name, access_token_file, client_token_file, accept_enterprises=accept_enterprises, as_json=as_json)


@connections.command()
@click.argument("name", type=CONNECTION)
@click.option("--purge", is_flag=True, help="Delete what it has mirrored, too, with its history.")
@click.option("--yes", "is_meant", is_flag=True, help="With --purge: do it without asking.")
@option_json
def remove(name: str, purge: bool, is_meant: bool, as_json: bool) -> None:
    """Take a connection out, and forget its tokens. Its mirrored rows stay, unless --purge is given.

    Refused while changes that are queued for it are not finished.
    """
    with loading():
        from sync.cli.connections.remove import remove as work

    work(name, purge=purge, is_meant=is_meant, as_json=as_json)


@connections.command()
def key() -> None:
    """Print a new key for SYNC_SECRET_KEY. Whoever has it and the database has the tokens; without it nobody has."""
    with loading():
        from sync.fleet.tokens import new_key

    click.echo(new_key())


@connections.command()
@option_json
def reencrypt(as_json: bool) -> None:
    """Encrypt all tokens with the first key.

    The first of SYNC_SECRET_KEY; after it no other one is needed.
    """
    with loading():
        from sync.cli.connections.change import reencrypt as work

    work(as_json=as_json)
