"""The commands of `voucher-sync connections`."""
