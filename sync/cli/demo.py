"""`voucher-sync demo`."""

import asyncio
import sys

import click


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0), help="End by itself after so long.")
@click.option("--live", is_flag=True, help="Use the vendor's public demo environment in place of the simulator.")
def demo(seconds: float | None, live: bool) -> None:
    """Show it all: a database, a simulated API that people keep changing, and the daemon.

    Exits 0 only if the mirror is equal to the simulator, row by row, in the end.
    """
    # Imported late, so that the daemon does not carry the simulator and its web server in memory.
    from sync.demo.show import show_live, show_simulated, stage  # noqa: PLC0415 - for that reason

    with stage() as it:
        show = show_live if live else show_simulated
        is_equal = asyncio.run(show(it, seconds))
    sys.exit(0 if is_equal else 1)
