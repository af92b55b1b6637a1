"""`voucher-sync roles`."""

import sys

import click

from sync.cli.database import open_database
from sync.cli.terminal import echo_json
from sync.service.roles import Mended, Role, mend
from sync.settings import load_settings


def roles(*, as_json: bool) -> None:
    """Make and grant what is missing, and tell what is left; exit with 1 if anything is."""
    with open_database(load_settings()) as url:
        mended = mend(url)
    if as_json:
        echo_json(mended)
    else:
        _tell(mended)
    sys.exit(0 if all(role.is_ready for role in mended.roles) else 1)


def _tell(mended: Mended) -> None:
    for name in mended.made:
        click.echo(f"{name} is made.")
    if mended.granted:
        click.echo("Granted what was missing.")
    for role in mended.roles:
        click.echo(describe_role(role))
    if mended.left:
        click.echo("Somebody who may do that must run this in the database; then run `voucher-sync roles` again:\n")
        for statement in mended.left:
            click.echo(statement)


def describe_role(role: Role) -> str:
    """One line."""
    if role.members is None:
        return f"{role.name} is missing"
    state = f"lacks {', '.join(role.lacks)}" if role.lacks else f"is ready, members: {role.members}"
    other = "; it may log in or is a superuser, so somebody has made it for more than this" * role.is_more_than_a_group
    return f"{role.name} {state}{other}"
