"""What every transaction says of itself, so that nothing which a session brings along counts.

Roles, databases, PGOPTIONS and a URL's `options` may all set how a session reads dates, where it looks for names, or
how long it may wait; and behind a pooler in transaction mode a transaction may find any session, with what others
left there. A `SET` when connecting would not do, nor would a start-up parameter, which such a pooler refuses. So each
transaction begins with all of it, in the one message that begins it (30 µs, and no trip more); so does what a kind of
transactions adds, in the option `ALSO` of its connection.

Left as it comes: `role`, by which sites say to whom objects are to belong; what only costs or saves time; and
`synchronous_commit`, which `sync.outbox.claims.as_daemon` looks at.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from sync.postgres.own_operators import send_texts_as_text

LOCK_TIMEOUT_S = 30
"""Somebody else's lock is waited for so long; shorter than a transaction may take, so that it is told as what it is."""
TRANSACTION_TIMEOUT_SINCE = 170_000
RELATION_KINDS_SINCE = {14: 140_013, 15: 150_008, 16: 160_004}
"""By release, where not its first version knows the setting."""

SETTINGS = {
    # psycopg reads dates, instants and intervals in these styles alone; and in a zone behind UTC the first hours of the
    # year 1 lie in the year 0, which Python does not have.
    "datestyle": "'ISO, MDY'",
    "intervalstyle": "'postgres'",
    "timezone": "'UTC'",
    "extra_float_digits": "1",
    # What literals mean, and how NULL compares.
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # Off, it makes errors of policies that do not concern the owner of a table.
    "row_security": "on",
    # How long is too long is known here, by what is done.
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "lock_timeout": f"'{LOCK_TIMEOUT_S}s'",
    # A refused row is no reason to lose the session; nor does anybody read notices here.
    "exit_on_error": "off",
    "client_min_messages": "warning",
    # To compile short statements takes longer than they do, and so it is to start workers for them: for each row of
    # another table, where a site has made that look cheap.
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
SEARCH_PATH = """
SELECT pg_catalog.set_config('search_path', pg_catalog.concat(pg_catalog.rtrim(pg_catalog.concat(
  'pg_catalog, ', pg_catalog.current_setting('search_path')), ', '), ', pg_temp'), true)
"""
"""What we name is found in PostgreSQL's own schema before all others, and a temporary table comes last, not first. The
session's path follows: triggers and indexes that users put on our tables may look for their own things by it. So
what we ask must fit PostgreSQL's own functions and operators exactly, as sync/postgres/own_operators.py says."""
NO_MORE: Mapping[str, str] = MappingProxyType({})
ALSO = "also_begin_with"
"""An execution option: statements, without parameters, that follow those which begin a transaction."""
SEES = "sees"
"""An execution option: how a transaction sees what others commit meanwhile, and whether it may write."""
WORK = "READ COMMITTED, READ WRITE"
BEGIN = "BEGIN ISOLATION LEVEL"


def begin_statement(server_version: int, more: Mapping[str, str] = NO_MORE, sees: str = WORK) -> str:
    """What begins a transaction, whatever the session has set; `server_version` as libpq counts it, 180004.

    `more`: settings of our own, beside PostgreSQL's.
    """
    settings = {**SETTINGS, **_newer_settings(server_version), **more}
    own = (f"SET LOCAL {name} = {value}" for name, value in settings.items())
    return "; ".join([f"{BEGIN} {sees}, NOT DEFERRABLE", SEARCH_PATH.strip(), *own])


def _newer_settings(server_version: int) -> dict[str, str]:
    newer = {}
    if server_version >= TRANSACTION_TIMEOUT_SINCE:
        newer["transaction_timeout"] = "0"
    if server_version >= RELATION_KINDS_SINCE.get(server_version // 10_000, 0):
        # It forbids views, ours among them, to whom it was set for as a precaution while he dumps.
        newer["restrict_nonsystem_relation_kind"] = "''"
    return newer


def begin_again(connection: Connection) -> None:
    """Begin a transaction in the place of one that was ended by a statement, on a connection of such an engine."""
    _begin(connection)


def begin_by_statement(engine: Engine, more: Mapping[str, str] = NO_MORE) -> None:
    """Let an engine's transactions begin so, and say no type that lets a stranger's operators in; its connections must
    be in psycopg's autocommit mode.

    A session that ended while the pool kept it is found out by this first statement, and not by one before it.
    """
    send_texts_as_text(engine)
    event.listen(engine, "begin", partial(_begin_in_any_session, more=more))


def _begin_in_any_session(connection: Connection, more: Mapping[str, str] = NO_MORE) -> None:
    try:
        _begin(connection, more)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        _begin(connection, more)  # in a new one: the pool gives out none that is older than this failure


def _begin(connection: Connection, more: Mapping[str, str] = NO_MORE) -> None:
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None  # noqa: S101 - only a closed connection has none
    options = connection.get_execution_options()
    statement = begin_statement(driver_connection.info.server_version, more, options.get(SEES, WORK))
    if also := options.get(ALSO):
        statement += f"; {also}"
    # Without parameters psycopg sends it as it is: several statements, one message.
    connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
