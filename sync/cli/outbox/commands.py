"""`voucher-sync outbox` as it is called. What each command does is imported when it is called, as in `commands`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from sync.cli.loading import loading
from sync.cli.outbox.options import (
    WORDS,
    option_dry_run,
    option_from,
    option_json,
    option_not_before,
    option_note,
    option_priority,
    option_to,
    option_voucher,
)
from sync.outbox.rules import Operation, Status

MAX_ID = 2**63 - 1
MAX_COUNT = 1_000_000

option_key = click.option(
    "--key",
    "idempotency_key",
    type=WORDS,
    help="Idempotency key: queueing the same again does nothing.",
)


@click.group()
def outbox() -> None:
    """Queue adds and deletes of voucher codes, and control what is queued.

    The daemon (`voucher-sync run`) sends what is queued here, or by INSERT into mews.voucher_code_outbox.
    """


@outbox.command()
@option_voucher("The voucher that gets the code.", required=True)
@click.argument("value", type=WORDS)
@option_from
@option_to
@option_not_before
@option_key
@option_priority
@option_note
def add(**asked: Any) -> None:
    """Queue one code to be added.

    Instants are in ISO 8601, in UTC where they name no zone; a date is its first instant. A VALUE that begins with a
    dash goes behind `--`.

    \b
    Example:
      voucher-sync outbox add --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10 SUMMER-2027 --to 2027-09-01
    """
    with loading():
        from sync.cli.outbox.changes import queue_change

    queue_change(Operation.ADD, asked)


@outbox.command()
@click.option("--code", "voucher_code_id", metavar="ID", type=click.UUID, help="The code's id.")
@option_voucher("The code's voucher, where the code is named by its value.")
@click.argument("value", type=WORDS, required=False)
@option_not_before
@option_key
@option_priority
@option_note
def delete(**asked: Any) -> None:
    """Queue one code to be deleted, named by --code, or by --voucher and VALUE.

    An add of the same code that is not sent yet is taken back instead, and nothing is sent.

    \b
    Examples:
      voucher-sync outbox delete --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10 SUMMER-2027
      voucher-sync outbox delete --code 0f7c1c52-7a43-4c41-8d0e-5b8f2a6f1f77
    """
    named_by = {name for name in ("voucher_code_id", "voucher_id", "value") if asked[name] is not None}
    if named_by not in ({"voucher_code_id"}, {"voucher_id", "value"}):
        raise click.UsageError("name the code by --code ID, or by --voucher ID and its VALUE")
    with loading():
        from sync.cli.outbox.changes import queue_change

    queue_change(Operation.DELETE, asked)


@outbox.command("import")
@click.argument("file", type=click.File("rb"))
@option_voucher("The voucher of every line that names none.")
@click.option(
    "--unique",
    type=click.Choice(["portfolio"]),
    help="Take values only that exist nowhere in what the token sees, in no voucher and no hotel.",
)
@click.option("--skip-bad", is_flag=True, help="Queue the good lines even if others are bad.")
@click.option("--as-is", is_flag=True, help="Take codes that look as if a spreadsheet had damaged them.")
@option_priority
@option_dry_run
def import_codes(**asked: Any) -> None:
    """Queue every code of a CSV FILE (- for the standard input) to be added.

    The first line names the columns: value, and if wanted voucher_id (before --voucher), validity_start_utc,
    validity_end_utc, not_before, note and idempotency_key, separated by commas, semicolons or tabs. A file with one
    code on each line and nothing else needs no such line. The text is UTF-8, or the UTF-16 of "Unicode text"; spaces
    around a field, and rows without any, do not count; instants are in ISO 8601, in UTC where they name no zone, and a
    date is its first instant. What a spreadsheet has made a number or a date of is bad, unless --as-is is given.

    The whole file is checked first, also against what is queued and what exists already. If a line is bad, nothing is
    queued, unless --skip-bad is given. Everything is queued in one transaction, or nothing.

    A value may exist in another voucher. With --unique portfolio it may not, not as a deleted code either: the mirror
    and the outbox are asked, and then the API, 1000 values a call, with the tokens of the settings.

    \b
    Example:
      value;validity_end_utc;note
      SUMMER-2027;2027-09-01;for the brochure
    \b
      voucher-sync outbox import codes.csv --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10 --dry-run
    """
    with loading():
        from sync.cli.outbox.import_codes import import_codes as work

    work(**asked)


@outbox.command()
@option_voucher("The voucher that gets the codes.", required=True)
@click.option("--count", type=click.IntRange(1, MAX_COUNT), required=True, help="How many codes.")
@click.option("--pattern", type=WORDS, required=True, help="# is a digit, ? a letter or digit, the rest is itself.")
@option_from
@option_to
@option_not_before
@option_priority
@option_note
@option_dry_run
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the codes into this new CSV file too, which only you can read.",
)
def generate(**asked: Any) -> None:
    """Make codes that nobody can guess, and queue them to be added.

    In the pattern, # stands for a digit and ? for a letter or digit that nobody misreads (without 0 and O, and without
    1, I and L). The pattern must have a thousand combinations for each code. Every code is new: unlike the others,
    unlike the voucher's codes in the mirror, unlike what was ever queued. All are queued in one transaction, or none.

    \b
    Example:
      voucher-sync outbox generate --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10 \\
        --count 5000 --pattern 'XMAS-####-????' --to 2027-12-27 --output xmas.csv
    """
    with loading():
        from sync.cli.outbox.generate import generate as work

    work(**asked)


@outbox.command("list")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([*map(str, Status)]),
    help="Only these; may be given several times.",
)
@click.option("--operation", type=click.Choice([*map(str, Operation)]), help="Only adds, or only deletes.")
@option_voucher("Only this voucher's.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="At most so many rows.")
@click.option("--values", "with_values", is_flag=True, help="Show the codes too; they are worth money.")
@option_json
def list_rows(**asked: Any) -> None:
    """List what is queued and what became of it, the newest first, and count it by status.

    The counts are of all rows of the operation and voucher that are asked for, listed or not. Off a terminal each row
    is a line with tabs: id, operation, status, voucher, queued at, attempts, last error, note, and with --values the
    code.

    \b
    Example:
      voucher-sync outbox list --status failed --status held
    """
    with loading():
        from sync.cli.outbox.show import list_rows as work

    work(**asked)


@outbox.command()
@click.argument("row_id", metavar="ID", type=click.IntRange(1, MAX_ID))
@option_json
def show(row_id: int, as_json: bool) -> None:
    """Show everything about one row, its code too, and each attempt to send it.

    \b
    Example:
      voucher-sync outbox show 17
    """
    with loading():
        from sync.cli.outbox.show import show as work

    work(row_id, as_json=as_json)


def _mover(name: str, explanation: str) -> None:
    """A command that moves rows. The three differ in their words only."""

    def run(ids: tuple[int, ...], is_all: bool, voucher_id: UUID | None) -> None:
        if bool(ids) == is_all or (voucher_id and not is_all):
            raise click.UsageError("give the rows' numbers, or --all, or --all --voucher ID")
        with loading():
            from sync.cli.outbox.changes import move

        move(name, ids, voucher_id)

    command: Callable[..., Any] = click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(1, MAX_ID))(
        run
    )
    command = click.option("--all", "is_all", is_flag=True, help="Every row that can be.")(command)
    command = option_voucher("With --all: only this voucher's.")(command)
    outbox.command(name, help=explanation)(command)


_mover(
    "retry",
    """Send again what failed.

    See `voucher-sync outbox show ID` for the reason first: what the API refused for good it refuses again.

    \b
    Examples:
      voucher-sync outbox retry 17 18
      voucher-sync outbox retry --all --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10
    """,
)
_mover(
    "cancel",
    """Take back what is pending or held.

    What is being sent cannot be taken back: queue the opposite change.

    \b
    Examples:
      voucher-sync outbox cancel 17
      voucher-sync outbox cancel --all --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10
    """,
)
_mover(
    "release",
    """Let go what the mass-delete brake holds.

    Look at it first: `voucher-sync outbox list --status held`.

    \b
    Examples:
      voucher-sync outbox release 17 18
      voucher-sync outbox release --all
    """,
)
