"""A connection: one access token on one platform address, whose hotels it is for, and what it remembers."""
