"""`voucher-sync`, which kills itself at a step of its event loop: `python -m tests.simulation.self_killing 1234 run`.

The steps of a loop are what lies between two awaits, so that no place in the code is spared for long. The kill is a
real one: nothing is closed and nothing is told.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from sync.cli import main


def die_at(step: int) -> None:
    """Kills this process when its event loop is asked for the so-manieth step."""
    ask, left = asyncio.BaseEventLoop.call_soon, step

    def call_soon(loop: asyncio.BaseEventLoop, *arguments: Any, **options: Any) -> asyncio.Handle:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return ask(loop, *arguments, **options)

    # Nothing but a patch reaches every loop: the service makes its own. Its tasks, written in C, ask by this name.
    asyncio.BaseEventLoop.call_soon = call_soon  # type: ignore[assignment,method-assign]  # see above


if __name__ == "__main__":
    die_at(int(sys.argv.pop(1)))
    main()
