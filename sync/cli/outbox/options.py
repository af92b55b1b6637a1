"""The options that the commands of `voucher-sync outbox` share."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from sync.core.instants import parse_instant


class Instant(click.ParamType[datetime]):
    """An instant in ISO 8601; without a zone it is UTC."""

    name = "UTC"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Click's own way to ask for it."""
        if isinstance(value, datetime):
            return value
        try:
            return parse_instant(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Words(click.ParamType[str]):
    """A text that the database can hold."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Click's own way to ask for it."""
        if re.search("[\ud800-\udfff]", value):
            self.fail("is not a text in UTF-8", param, ctx)
        return str(value)


INSTANT, WORDS = Instant(), Words()


def option_voucher(words: str, *, required: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The voucher of a code."""
    return click.option("--voucher", "voucher_id", metavar="ID", type=click.UUID, required=required, help=words)


option_from = click.option("--from", "validity_start_utc", type=INSTANT, help="When the code can be used first.")
option_to = click.option("--to", "validity_end_utc", type=INSTANT, help="When it can no longer be used.")
option_not_before = click.option("--not-before", type=INSTANT, help="Send it at that instant, not earlier.")
option_note = click.option("--note", type=WORDS, help="Anything, for people; it is not sent.")
option_priority = click.option(
    "--priority",
    type=click.IntRange(-(2**31), 2**31 - 1),
    default=0,
    help="What has a higher one goes first; for the operator. 0 if it is not given.",
)
option_dry_run = click.option(
    "--dry-run", is_flag=True, help="Check everything, say what would be done, queue nothing."
)
option_json = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
