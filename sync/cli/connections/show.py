"""`voucher-sync connections list`."""

from dataclasses import replace
from functools import partial

import click
from rich.text import Text
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.cli.database import with_database
from sync.cli.shapes import ListedConnections
from sync.cli.terminal import as_cell, echo_json, is_shown_to_somebody, plain_table, print_table
from sync.fleet.listing import ListedConnection, list_present
from sync.postgres.engine import in_transaction
from sync.postgres.snapshot import snapshot
from sync.service.status import words
from sync.service.status.load import load_overview
from sync.service.status.verdict import Level, judge_connection
from sync.settings import load_settings


def list_connections(*, as_json: bool) -> None:
    """Print the connections."""
    settings = load_settings()
    load = partial(_load, settings.sync_lease_s)
    found = with_database(settings, lambda engine: in_transaction(engine, load, snapshot))
    if as_json:
        echo_json(ListedConnections(found))
    elif is_shown_to_somebody():
        _show(found)
    else:
        for one in found:
            cells = (one.name, one.origin, one.state, one.late_s, one.owner, one.paused_because, one.platform_address)
            click.echo("\t".join(as_cell(cell) for cell in cells))


async def _load(lease_s: float, tx: AsyncConnection) -> list[ListedConnection]:
    """The connections, failing also where nobody is left to note it, as `status` has it."""
    overview = await load_overview(tx, ())
    judged = {one.name: judge_connection(one, overview, lease_s) for one in overview.connections}
    failing = {name: verdict for name, verdict in judged.items() if verdict.level is Level.FAILING}
    return [
        replace(one, state="failing", since=why.since or one.since, error=why.cause or why.headline)
        if one.state != "failing" and (why := failing.get(one.name))
        else one
        for one in await list_present(tx)
    ]


def _show(found: list[ListedConnection]) -> None:
    if not found:
        click.echo("There is none yet: `voucher-sync connections add`, or MEWS_ACCESS_TOKEN in the environment.")
        return
    table = plain_table("name", "state", "since (UTC)", "late", "owner", "why")
    for one in found:
        late = "not yet" if one.late_s is None else words.lasting(one.late_s)
        since = "" if one.state == "ok" else f"{one.since:%Y-%m-%d %H:%M}"
        why = one.paused_because if one.state == "paused" else one.error
        table.add_row(*(Text(as_cell(cell)) for cell in (one.name, one.state, since, late, one.owner, why)))
    print_table(table)
