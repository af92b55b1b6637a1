"""The commands of `voucher-sync outbox` that show what is queued."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sync.cli.loading import loading
from sync.cli.options import WORDS, option_json
from sync.cli.outbox.options import (
    INSTANT,
    ROW,
    WholeNumber,
    option_voucher,
)
from sync.outbox.rules import Operation, Status

option_operation = click.option(
    "--operation", type=click.Choice([*map(str, Operation)]), help="Only adds, or only deletes."
)
option_value = click.option("--code", "value", metavar="TEXT", type=WORDS, help="Only this code's, by its text.")
option_note = click.option("--note", type=WORDS, help="Only with this very note.")
option_by = click.option("--by", "queued_by", metavar="USER", type=WORDS, help="Only what this database user queued.")
option_since = click.option("--since", type=INSTANT, help="Only what ended, or is queued and has not, since then.")
option_until = click.option("--until", type=INSTANT, help="Only what ended, or is queued and has not, before then.")


def option_status(*chosen: Status) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Which statuses; `chosen` where none is given."""
    words = f" {' and '.join(chosen)} where none is given." if chosen else ""
    return click.option(
        "--status",
        "statuses",
        multiple=True,
        type=click.Choice([*map(str, Status)]),
        default=[*map(str, chosen)] or None,
        help=f"Only these; may be given several times.{words}",
    )


@click.command("list")
@option_status()
@option_operation
@option_voucher("Only this voucher's.")
@option_value
@option_note
@option_by
@option_since
@option_until
@click.option("--limit", type=WholeNumber(1, 1_000_000), default=50, show_default=True, help="At most so many rows.")
@click.option("--values", "with_values", is_flag=True, help="Show the codes too; they are worth money.")
@option_json
def list_rows(**asked: Any) -> None:
    """List what is queued and what became of it.

    The newest first, and counted by status. The counts are of all rows that are asked for, of whichever status, listed
    or not. With --code it is also told what the mirror has of that code. Off a terminal each row is a line with tabs:
    id, operation, status, voucher, queued at, attempts, last error, note, with --values the code, and the voucher's
    name.

    \b
    Examples:
      voucher-sync outbox list --status failed --status held
      voucher-sync outbox list --code SUMMER-2027
    """
    with loading():
        from sync.cli.outbox.show import list_rows as work

    work(**asked)


@click.command()
@click.argument("row_id", metavar="ID", type=ROW)
@option_json
def show(row_id: int, as_json: bool) -> None:
    """Show everything about one row, its code too.

    And each attempt to send it.

    \b
    Example:
      voucher-sync outbox show 17
    """
    with loading():
        from sync.cli.outbox.show import show as work

    work(row_id, as_json=as_json)


@click.command()
@option_status(Status.FAILED, Status.HELD)
@option_operation
@option_voucher("Only this voucher's.")
@option_by
@option_since
@option_until
@option_json
def reasons(**asked: Any) -> None:
    """Count why changes failed or are held.

    The code's text, ids and numbers are left out of the words. Off a terminal each reason is a line with tabs: rows,
    operation, status, the last row, when it ended, and the words.

    \b
    Example:
      voucher-sync outbox reasons --since 2027-06-01
    """
    with loading():
        from sync.cli.outbox.show import show_reasons as work

    work(**asked)


@click.command()
@option_status(Status.DONE)
@option_operation
@option_voucher("Only this voucher's.")
@option_note
@option_by
@option_since
@option_until
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write into this new file, which only you can read; without it, to the standard output.",
)
@click.option("--as-is", is_flag=True, help="Write codes and notes that begin as a formula does without a mark.")
def export(**asked: Any) -> None:
    """Write what became of changes, as CSV.

    With the codes and their ids, the oldest first. The first line names the columns; instants are in ISO 8601 and UTC.
    Rows older than SYNC_OUTBOX_KEEP_DAYS are gone. A spreadsheet would run a cell that begins with =, +, - or @: it is
    marked as text with an ' in front.

    \b
    Example:
      voucher-sync outbox export --operation add --note 'for the brochure' --output brochure.csv
    """
    with loading():
        from sync.cli.outbox.export import export as work

    work(**asked)
