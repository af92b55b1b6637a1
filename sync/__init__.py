"""Mirrors voucher codes from the Mews Connector API into PostgreSQL and pushes queued changes back."""
