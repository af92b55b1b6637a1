"""How an error ends a command.

Exit codes: 0 done; 1 something failed, the message says what; 2 the call or a setting is wrong; 130 interrupted.
"""

import sys

import click

from sync.cli.commands import voucher_sync
from sync.model.errors import SettingsError, VoucherSyncError


def main() -> None:
    """Run a command; what it raises on purpose ends it with a message instead of a traceback."""
    try:
        # On its own click would end an interrupted command with code 1, as if it had failed.
        sys.exit(voucher_sync(standalone_mode=False))
    except VoucherSyncError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
