"""What tests of what is told share: a database that knows one connection."""

from collections.abc import Iterator

import psycopg
import pytest


@pytest.fixture
def sql(database_url: str) -> Iterator[psycopg.Connection]:
    """A session to write with past the outbox's triggers, on a database that knows one connection."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO sync.connections (name, state, heartbeat_at, caught_up_as_of, token_fingerprint) "
            "VALUES ('default', 'ok', now(), now(), 'x')"
        )
        yield connection
