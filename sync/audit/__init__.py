"""The audit: every code of every voucher compared with the mirror, row by row."""
