"""The command line: `voucher-sync`."""

from sync.cli.main import main

__all__ = ["main"]
