"""The commands of `voucher-sync outbox` that queue single changes."""

from typing import Any

import click

from sync.cli.loading import loading
from sync.cli.options import WORDS, option_json
from sync.cli.outbox.options import (
    option_after,
    option_from,
    option_key,
    option_not_before,
    option_note,
    option_priority,
    option_to,
    option_voucher,
)
from sync.outbox.rules import Operation

option_code = click.option("--code", "voucher_code_id", metavar="ID", type=click.UUID, help="The code's id.")


@click.command()
@option_voucher("The voucher that gets the code.", required=True)
@click.argument("value", type=WORDS)
@option_from
@option_to
@option_not_before
@option_after
@option_key
@option_priority
@option_note
@option_json
def add(**asked: Any) -> None:
    """Queue one code to be added.

    Instants are in ISO 8601, in UTC where they name no zone; a date is its first instant. A VALUE that begins with a
    dash goes behind `--`. The voucher is named by its id, its name or its external identifier.

    \b
    Example:
      voucher-sync outbox add --voucher 'Summer offer' SUMMER-2027 --to 2027-09-01
    """
    with loading():
        from sync.cli.outbox.changes import queue_change

    queue_change(Operation.ADD, **asked)


@click.command()
@option_code
@option_voucher("The code's voucher, where the code is named by its value.")
@click.argument("value", type=WORDS, required=False)
@option_not_before
@option_after
@option_key
@option_priority
@option_note
@option_json
def delete(**asked: Any) -> None:
    """Queue one code to be deleted.

    It is named by --code, or by --voucher and VALUE. An add of the same code that was never sent is taken back, if you
    may cancel it; then the delete is only sent where the mirror has such a code too, or the add may have been made.

    \b
    Examples:
      voucher-sync outbox delete --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10 SUMMER-2027
      voucher-sync outbox delete --code 0f7c1c52-7a43-4c41-8d0e-5b8f2a6f1f77
    """
    named_by = {name for name in ("voucher_code_id", "voucher", "value") if asked[name] is not None}
    if named_by not in ({"voucher_code_id"}, {"voucher", "value"}):
        raise click.UsageError("name the code by --code ID, or by --voucher and its VALUE")
    with loading():
        from sync.cli.outbox.changes import queue_change

    queue_change(Operation.DELETE, **asked)


@click.command()
@option_code
@option_voucher("The code's voucher, where the code is named by its value.")
@click.argument("values", metavar="[OLD] NEW", nargs=-1, type=WORDS)
@option_from
@option_to
@option_not_before
@option_key
@option_priority
@option_note
@option_json
def replace(values: tuple[str, ...], **asked: Any) -> None:
    """Replace a code by a new one.

    Queues an add of NEW, and behind it the delete of OLD. The old code is named by --code, or by --voucher and OLD. It
    can be used until the new one stands: if the API refuses that, the old one stays, and its delete waits for a retry.
    The new code is the same voucher's, and can be used as long as the old one could, unless --from or --to is given.

    \b
    Examples:
      voucher-sync outbox replace --voucher 'Summer offer' SUMMER-2026 SUMMER-2027 --to 2027-09-01
      voucher-sync outbox replace --code 0f7c1c52-7a43-4c41-8d0e-5b8f2a6f1f77 SUMMER-2027
    """
    _require_one_name(asked, len(values) == (1 if asked["voucher_code_id"] else 2), "NEW, or --voucher, OLD and NEW")
    with loading():
        from sync.cli.outbox.pairs import queue_pair

    queue_pair(old=None if asked["voucher_code_id"] else values[0], new=values[-1], **asked)


@click.command()
@option_code
@option_voucher("The code's voucher, where the code is named by its value.")
@click.argument("value", type=WORDS, required=False)
@option_from
@option_to
@option_not_before
@option_key
@option_priority
@option_note
@option_json
def extend(value: str | None, **asked: Any) -> None:
    """Give a code another validity.

    Queues its delete, and behind it an add of the same value. A voucher holds a value once at a time, so the old code
    goes first, and nobody can use the code until the new one stands: for two calls of the API, mostly less than a
    second; for as long as it takes where the API fails in between; and until a retry where it refuses the new one.
    `replace` by another value leaves no such gap. What --from or --to does not say stays as it is; the code gets a new
    id.

    \b
    Examples:
      voucher-sync outbox extend --voucher 'Summer offer' SUMMER-2027 --to 2027-10-01
      voucher-sync outbox extend --code 0f7c1c52-7a43-4c41-8d0e-5b8f2a6f1f77 --from 2027-05-01 --to 2027-10-01
    """
    _require_one_name(asked, (value is None) is bool(asked["voucher_code_id"]), "alone, or by --voucher and VALUE")
    if not (asked["validity_start_utc"] or asked["validity_end_utc"]):
        raise click.UsageError("say by --from or --to how long the code can be used")
    with loading():
        from sync.cli.outbox.pairs import queue_pair

    queue_pair(old=value, new=None, **asked)


def _require_one_name(asked: dict[str, Any], has_right_values: bool, ways: str) -> None:
    if bool(asked["voucher_code_id"]) is bool(asked["voucher"]) or not has_right_values:
        raise click.UsageError(f"name the code by --code ID and {ways}".replace("and alone", "alone"))
