"""The status page: what `voucher-sync status` says, in a browser."""
