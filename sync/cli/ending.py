"""How a command ends, whatever ends it.

Exit codes: 0 done; 1 something failed, the message says what; 2 the call or a setting is wrong; 130 interrupted;
141 whoever read what was written (`outbox export`) has gone, elsewhere a reader that goes changes nothing; 143 a
SIGTERM has ended it before it was at work (`sync.cli`: all but a container's first process die of the signal itself).
"""

import os
import resource
import sys
from contextlib import suppress

import click

from sync.cli import streams
from sync.cli.commands import voucher_sync
from sync.core.errors import SettingsError, VoucherSyncError
from sync.core.outages import refusal

LOST = "; what was to be printed is lost, and what was asked for may be done: look before you do it again"


def run_command() -> None:
    """Run a command; what ends it is a message and an exit code, never a traceback."""
    streams.prepare()
    # A core dump would hold the tokens; what it starts, as the embedded server, inherits this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        # On its own click would end an interrupted command with code 1, as if it had failed.
        code = voucher_sync(standalone_mode=False)
    except SystemExit as ended:
        code = ended.code
    except VoucherSyncError as error:
        code = _end(str(error), 2 if isinstance(error, SettingsError) else 1)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except OSError as error:
        code = _end(f"{refusal(error)}{LOST if streams.is_lost() else ''}", 1)
    except ImportError as error:
        code = _end(
            f"a library cannot be used: {error}; install voucher-sync again, and see PYTHON* and PSYCOPG_IMPL", 1
        )
    except BaseException as error:  # noqa: BLE001 - the one place for what nobody foresaw
        code = 130 if _is_second_signal(error) else _end(_internal_error(error), 1)
    sys.exit(code if streams.are_through() else code or 1)


def _is_second_signal(error: BaseException) -> bool:
    """Whether it ended since a second signal cancelled what it still waited for after the first."""
    from asyncio import CancelledError  # noqa: PLC0415 - a call for help has no need for it

    return isinstance(error, CancelledError)


def _end(words: str, code: int) -> int:
    with suppress(OSError):  # there may be nobody to tell
        click.echo(f"Error: {words}", err=True)
    return code


def _internal_error(error: BaseException) -> str:
    from sync.core.internal_errors import internal_error, told  # noqa: PLC0415 - takes a while, and is hardly ever needed

    if os.environ.get("SYNC_LOG_LEVEL", "").lower() == "debug":
        click.echo(told(error), err=True)
    words = " ".join(["voucher-sync", *sys.argv[1:2]])
    return f"{internal_error(words, error)}; SYNC_LOG_LEVEL=debug shows the traceback"
