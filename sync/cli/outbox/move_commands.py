"""The commands of `voucher-sync outbox` that move what is queued. They differ in their words only."""

from collections.abc import Callable
from typing import Any

import click

from sync.cli.loading import loading
from sync.cli.options import option_json
from sync.cli.outbox.options import ROW, option_voucher


def _mover(name: str, explanation: str) -> click.Command:
    """A command that moves rows. The three differ in their words only."""

    def run(ids: tuple[int, ...], is_all: bool, voucher: str | None, as_json: bool) -> None:
        if bool(ids) == is_all or (voucher and not is_all):
            raise click.UsageError("give the rows' numbers, or --all, or --all --voucher")
        with loading():
            from sync.cli.outbox.changes import move

        move(name, ids, voucher, as_json=as_json)

    command: Callable[..., Any] = click.argument("ids", metavar="[ID]...", nargs=-1, type=ROW)(run)
    command = click.option("--all", "is_all", is_flag=True, help="Every row that can be.")(command)
    command = option_json(command)
    command = option_voucher("With --all: only this voucher's.")(command)
    return click.command(name, help=explanation)(command)


retry = _mover(
    "retry",
    """Send again what failed.

    See `voucher-sync outbox show ID` for the reason first: what the API refused for good it refuses again.

    \b
    Examples:
      voucher-sync outbox retry 17 18
      voucher-sync outbox retry --all --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10
    """,
)
cancel = _mover(
    "cancel",
    """Take back what is pending or held.

    What is being sent cannot be taken back: queue the opposite change.

    \b
    Examples:
      voucher-sync outbox cancel 17
      voucher-sync outbox cancel --all --voucher 8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10
    """,
)
release = _mover(
    "release",
    """Release what is held.

    Too many deletes at once, or what `voucher-sync adopt --keep` has left. Look at it first: `voucher-sync outbox list
    --status held`.

    \b
    Examples:
      voucher-sync outbox release 17 18
      voucher-sync outbox release --all
    """,
)
