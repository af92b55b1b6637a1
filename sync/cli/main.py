"""The list of commands, and how an error ends one.

Exit codes: 0 done; 1 something failed, the message says what; 2 the call or a setting is wrong; 130 interrupted.
"""

import asyncio
import sys

import click

from sync.cli.audit import audit_command
from sync.cli.check import check
from sync.cli.demo import demo
from sync.cli.migrate import migrate
from sync.cli.outbox import outbox
from sync.cli.run import once, run
from sync.cli.status import status
from sync.model.errors import SettingsError, VoucherSyncError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="voucher-sync")
def voucher_sync() -> None:
    """Mirrors voucher codes from the Mews Connector API into PostgreSQL.

    Settings come from the environment or an .env file: see the README.
    """


for command in (run, once, migrate, check, status, audit_command, outbox, demo):
    voucher_sync.add_command(command)


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
    except (KeyboardInterrupt, asyncio.CancelledError, click.Abort):
        sys.exit(130)
