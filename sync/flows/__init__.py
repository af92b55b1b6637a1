"""One run of one job for one connection: each takes a `Connection` and returns a report of what it did."""
