"""`voucher-sync outbox` as it is called. What each command does is imported when it is called, as in `commands`."""

import click

from sync.cli.groups import Group
from sync.cli.outbox import bulk_commands, look_commands, move_commands, queue_commands


@click.group(cls=Group)
def outbox() -> None:
    """Queue adds and deletes of codes, and control them.

    The daemon (`voucher-sync run`) sends what is queued here, or by INSERT into mews.voucher_code_outbox.
    """


for command in (
    queue_commands.add,
    queue_commands.delete,
    queue_commands.replace,
    queue_commands.extend,
    bulk_commands.import_codes,
    bulk_commands.generate,
    look_commands.list_rows,
    look_commands.show,
    look_commands.reasons,
    look_commands.export,
    move_commands.retry,
    move_commands.cancel,
    move_commands.release,
):
    outbox.add_command(command)
