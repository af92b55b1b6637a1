"""Long outages: the API away for days, the database for an hour or full, a token revoked. It catches up by itself."""
