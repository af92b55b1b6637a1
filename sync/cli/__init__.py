"""The command line: `voucher-sync`."""

import os
import signal
import sys
from types import FrameType

DIED_OF_SIGTERM = 128 + signal.SIGTERM
"""What shells and container engines tell of a process that a SIGTERM has killed."""

INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run a command; what ends it is a message and an exit code, never a traceback."""
    if os.getpid() == 1:
        # Before anything is loaded: the first process of a container without an init gets no signal that it does not
        # handle, so a stop in the seconds of a start would wait for the kill.
        signal.signal(signal.SIGTERM, _die)
    try:
        # Whoever starts it may have blocked them, which a process inherits: only a SIGKILL would end it.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        from sync.cli.ending import run_command

        run_command()
    except KeyboardInterrupt:  # a Ctrl-C before or after all that it can end otherwise
        sys.exit(INTERRUPTED)


def _die(_number: int, _frame: FrameType | None) -> None:
    """End as any other process does that handles no SIGTERM: at once, and closing nothing."""
    os._exit(DIED_OF_SIGTERM)
