"""What `voucher-sync check` finds of the way by which the daemon listens, where that is another one than all else."""

from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError

from sync.cli.check_line import NO_START, CheckLine
from sync.core.errors import SettingsError
from sync.postgres.engine import connect_options, translate
from sync.postgres.wording import words_of

SETTING = "SYNC_LISTEN_URL"
# Of two databases one of these differs; notifications go from one to the other of none.
_WHICH = """
SELECT pg_catalog.pg_postmaster_start_time(), (
  SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
"""


def check_listening(listen_url: str, database_url: str) -> CheckLine:
    """Whether somebody answers there, and for the same database. Raises `DatabaseError` where that does not answer."""
    try:
        listened_to = _which(connect_options(listen_url, SETTING))
    except SettingsError as error:
        return CheckLine("listen", str(error), NO_START)
    except psycopg.Error as error:
        return CheckLine("listen", f"by {SETTING} nobody answers: {words_of(error)}", _to_do("mend or unset it"))
    try:
        worked_with = _which(connect_options(database_url))
    except psycopg.Error as error:
        raise translate(DBAPIError(None, None, error)) from None
    if listened_to != worked_with:
        return CheckLine(
            "listen", f"{SETTING} leads to another database than DATABASE_URL", _to_do("let it lead to the same one")
        )
    return CheckLine("listen", f"{SETTING} leads to the same database")


def _which(options: dict[str, Any]) -> tuple[Any, ...] | None:
    with psycopg.connect(**options, autocommit=True) as session:
        return session.execute(_WHICH).fetchone()


def _to_do(what: str) -> str:
    return f"{what}; until then queued changes are found only every SYNC_PUSH_POLL_S"
