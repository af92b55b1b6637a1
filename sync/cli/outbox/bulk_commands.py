"""The commands of `voucher-sync outbox` that queue many adds at once."""

from pathlib import Path
from typing import Any

import click

from sync.cli.loading import loading
from sync.cli.options import CONNECTION, WORDS, option_json
from sync.cli.outbox.options import (
    WholeNumber,
    option_dry_run,
    option_forecast,
    option_from,
    option_not_before,
    option_note,
    option_priority,
    option_to,
    option_voucher,
)

MAX_COUNT = 1_000_000


@click.command("import")
@click.argument("file", type=click.File("rb"))
@option_voucher("The voucher of every line that names none.")
@click.option(
    "--unique",
    type=click.Choice(["portfolio"]),
    help="Take values only that exist nowhere in what the token sees, in no voucher and no hotel.",
)
@click.option(
    "--connection",
    metavar="NAME",
    type=CONNECTION,
    help="With --unique: whose token is asked. Default: the environment's.",
)
@click.option("--skip-bad", is_flag=True, help="Queue the good lines even if others are bad.")
@click.option("--as-is", is_flag=True, help="Take codes that look as if a spreadsheet had damaged them.")
@option_priority
@option_dry_run
@option_forecast
@option_json
def import_codes(**asked: Any) -> None:
    """Queue every code of a CSV file to be added.

    FILE is its name, or - for the standard input. The first line names the columns: value, and if wanted voucher_id
    (before --voucher), validity_start_utc, validity_end_utc, not_before, note and idempotency_key, separated by commas,
    semicolons or tabs. A file with one code on each line and nothing else needs no such line. The text is UTF-8, or the
    UTF-16 of "Unicode text"; each code has a line of its own, so that no field holds a line break, not even in quotes;
    spaces around a field, and rows without any, do not count; instants are in ISO 8601, in UTC where they name no zone,
    and a date is its first instant. What a spreadsheet has made a number or a date of is bad, unless --as-is is given.

    The whole file is checked first, also against what is queued and what exists already. If a line is bad, nothing is
    queued, unless --skip-bad is given. Behind a quote that a line leaves open all lines are bad, through the one that
    ends it. Everything is queued in one transaction, or nothing.

    A value may exist in another voucher. With --unique portfolio it may not, not as a deleted code either: the mirror
    and the outbox are asked, and then the API, 1000 values a call, with the connection's tokens.

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


@click.command()
@option_voucher("The voucher that gets the codes.", required=True)
@click.option("--count", type=WholeNumber(1, MAX_COUNT), required=True, help="How many codes.")
@click.option("--pattern", type=WORDS, required=True, help="# is a digit, ? a letter or digit, the rest is itself.")
@option_from
@option_to
@option_not_before
@option_priority
@option_note
@option_dry_run
@option_forecast
@option_json
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
