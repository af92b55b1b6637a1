"""What a database must be for this service to work with it: what a session says of its server when it opens."""

from typing import Any

import psycopg
from sqlalchemy import Engine, event

from sync.core.errors import Unsuitable

OLDEST, NEWEST = 14, 18
"""Releases of PostgreSQL that this version is made for. A newer one is not refused: it will most likely do."""
ENCODING = "UTF8"
NOT_CONVERTED = "MULE_INTERNAL"
"""The one encoding of which a server makes no UTF-8: no session is to be had, so that no other refusal comes first."""


def refuse_unsuitable(info: psycopg.ConnectionInfo) -> None:
    """Raise `Unsuitable` for a database that could not hold every code, or that is too old; costs no query."""
    encoding = info.parameter_status("server_encoding")
    if encoding != ENCODING:
        raise Unsuitable(other_encoding(f"the database {info.dbname}", encoding))
    if info.server_version < OLDEST * 10_000:
        raise Unsuitable(
            f"the server is PostgreSQL {version_of(info)}, and this version needs {OLDEST} or newer: upgrade it, or "
            "let DATABASE_URL lead to a newer one"
        )


def other_encoding(database: str, encoding: str | None) -> str:
    """What is wrong with a database of another encoding, and what to do."""
    return (
        f"{database} has the encoding {encoding}, which cannot hold every code: make one by "
        f"CREATE DATABASE ... ENCODING '{ENCODING}' TEMPLATE template0, and let DATABASE_URL lead to it"
    )


def version_of(info: psycopg.ConnectionInfo) -> str:
    """The release, such as 15.8."""
    return f"{info.server_version // 10_000}.{info.server_version % 10_000}"


def refuse_at_connect(engine: Engine) -> None:
    """Let an engine open no session on a database that is not suitable."""
    event.listen(engine, "connect", _refuse)


def _refuse(dbapi_connection: Any, record: Any) -> None:
    try:
        refuse_unsuitable(record.driver_connection.info)
    except Unsuitable:
        dbapi_connection.close()
        raise
