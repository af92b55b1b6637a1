"""The service: what runs when, what came of it, and the one place where the parts are put together."""
