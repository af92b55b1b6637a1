"""`voucher-sync connections list`."""

import click
from rich.text import Text

from sync.cli.outbox.work import with_database
from sync.cli.shapes import ListedConnections
from sync.cli.terminal import echo_json, is_shown_to_somebody, plain_table, print_table, printable
from sync.fleet.listing import ListedConnection, list_present
from sync.postgres.engine import in_transaction


def list_connections(*, as_json: bool) -> None:
    """Print the connections."""
    found = with_database(lambda engine: in_transaction(engine, list_present))
    if as_json:
        echo_json(ListedConnections(found))
    elif is_shown_to_somebody():
        _show(found)
    else:
        for one in found:
            cells = (one.name, one.origin, one.state, one.late_s, one.owner, one.paused_because, one.platform_address)
            click.echo("\t".join(printable(cell) for cell in cells))


def _show(found: list[ListedConnection]) -> None:
    if not found:
        click.echo("There is none yet: `voucher-sync connections add`, or MEWS_ACCESS_TOKEN in the environment.")
        return
    table = plain_table("name", "state", "since", "late", "owner", "why")
    for one in found:
        late = "" if one.late_s is None else f"{one.late_s:,.0f} s"
        since = "" if one.state == "ok" else f"{one.since:%Y-%m-%d %H:%M}"
        why = one.paused_because if one.state == "paused" else one.error
        table.add_row(*(Text(printable(cell)) for cell in (one.name, one.state, since, late, one.owner, why)))
    print_table(table)
