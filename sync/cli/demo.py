"""`voucher-sync demo`."""

import asyncio
import sys

from sync.cli import streams
from sync.demo.show import show_live, show_simulated, stage


def demo(*, seconds: float | None, live: bool) -> None:
    """Show it all, and exit with 0 only if both sides are equal in the end."""
    with stage() as it:
        show = show_live if live else show_simulated
        is_equal = asyncio.run(show(it, seconds, streams.is_read))
    sys.exit(0 if is_equal else 1)
