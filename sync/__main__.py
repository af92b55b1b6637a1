"""`python -m sync` is `voucher-sync`."""

from sync.cli import main

main()
