"""The options that the commands of `voucher-sync outbox` share."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from sync.cli.options import WORDS, Words
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


class VoucherName(Words):
    """A text by which the database is asked for a voucher: its id, its external identifier or its name."""

    name = "voucher"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Click's own way to ask for it; what a shell has no value for names no voucher, though the API may."""
        if not value.strip():
            self.fail("is empty", param, ctx)
        return super().convert(value, param, ctx)


class WholeNumber(click.IntRange):
    """A whole number within bounds."""

    wanted = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Click's own way to ask for it; its own words for what is no number at all would name a type of its own."""
        try:
            int(value)
        except ValueError:
            self.fail(f"{value!r} is no {self.wanted}", param, ctx)
        return super().convert(value, param, ctx)


class RowNumber(WholeNumber):
    """The number of a row of the outbox."""

    wanted = "row's number: see `voucher-sync outbox list`"


INSTANT, VOUCHER = Instant(), VoucherName()
ROW = RowNumber(1, 2**63 - 1)


def option_voucher(words: str, *, required: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The voucher of a code, by its id, its name or its external identifier."""
    return click.option("--voucher", metavar="VOUCHER", type=VOUCHER, required=required, help=words)


option_from = click.option("--from", "validity_start_utc", type=INSTANT, help="When the code can be used first.")
option_to = click.option("--to", "validity_end_utc", type=INSTANT, help="When it can no longer be used.")
option_not_before = click.option("--not-before", type=INSTANT, help="Send it at that instant, not earlier.")
option_note = click.option("--note", type=WORDS, help="Anything, for people; it is not sent.")
option_priority = click.option(
    "--priority",
    type=WholeNumber(-(2**31), 2**31 - 1),
    default=0,
    help="What has a higher one goes first; only the owner of the outbox may give one. 0 if it is not given.",
)
option_dry_run = click.option(
    "--dry-run", is_flag=True, help="Check everything, say what would be done, queue nothing."
)
option_forecast = click.option(
    "--forecast",
    "is_forecast",
    is_flag=True,
    help="Queue nothing: tell calls, time and share of the budget, and what to tell Mews before a campaign.",
)
option_key = click.option(
    "--key",
    "idempotency_key",
    type=WORDS,
    help="Idempotency key: queueing the same again does nothing.",
)
option_after = click.option(
    "--after",
    "after_id",
    metavar="ROW",
    type=ROW,
    help="Send it once this row of the outbox is done, not earlier.",
)
