"""`voucher-sync outbox`: queueing changes, looking at them, and moving them."""
