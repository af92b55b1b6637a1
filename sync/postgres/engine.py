"""Connections to PostgreSQL, and its errors in this service's words."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from random import Random
from typing import Any, TypeVar

import psycopg
from sqlalchemy import ExceptionContext, QueuePool, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from sync.core.errors import (
    DatabaseBusy,
    DatabaseError,
    DatabaseFull,
    DatabaseHindered,
    DatabaseLocked,
    DatabaseUnavailable,
    NotAllowed,
    NotMigrated,
    StatementRefused,
    Unsuitable,
)
from sync.core.retry import Backoff
from sync.postgres.arrays import send_binary
from sync.postgres.instants import read_all_instants
from sync.postgres.line import OF_ENGINES
from sync.postgres.locks import blockers, describe
from sync.postgres.places import PLACES, Places, place
from sync.postgres.requirements import NOT_CONVERTED, other_encoding, refuse_at_connect
from sync.postgres.session import ALSO, BEGIN, begin_by_statement
from sync.postgres.sqlstates import (
    BUSY,
    FULL,
    FULL_WORDS,
    GONE,
    LOCKED,
    MISSING,
    NOT_FOR_ROWS,
    PASSING,
    PROTOCOL,
    READ_ONLY,
    REFUSED,
    ROW_SECURITY,
    STARTUP_PARAMETER,
    STATEMENT_POOLING,
    UNAVAILABLE_CLASSES,
    UNSUPPORTED,
)
from sync.postgres.urls import also_read, read_url
from sync.postgres.wording import is_about_statement, is_lack_of_privilege, is_of_users_function, words_of

R = TypeVar("R")
Opened = Callable[[AsyncEngine], AbstractAsyncContextManager[AsyncConnection]]
_rng = Random()  # noqa: S311 - spreads retries, keeps no secret

POOL_SIZE = 5
"""Sessions of one process; two are enough, since no transaction waits for another one."""
POOL_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 10
STANDSTILL_S = 10
"""A transaction of work that nobody waits for, in which nothing is asked for so long, is ended by the database: its
process is stopped, or cut off, and its locks would keep a successor waiting for as long."""
TRANSACTION_TIMEOUT_S = 60
"""Of a page's worth of rows. A server that stopped answering without closing the line is given up then."""
SILENCE_MS = 15_000

STYLE = "Style "
UNREADABLE = (
    "an instant cannot be read, since a trigger or function of a user's has changed DateStyle or IntervalStyle in this "
    "transaction: let it take its settings by SET in its own definition, which end with it"
)
KEEPS_HISTORY = "voucher_sync.history"
"""The setting that `sync.keep_versions` goes by, in sync/mirror/history.sql."""
MAX_TRIES = 20
AGAIN_FOR_S = 10.0
"""A transaction that is not through after so long is given up: a lease may end, and its job comes again anyhow."""
ASK_FOR_S = 5.0
"""Who holds a lock is asked for so long, and told if that is known by then."""
AGAIN_AFTER = Backoff(base_s=0.02, cap_s=1.0)


def make_engine(
    database_url: str, pool_size: int = POOL_SIZE, *, keeps_history: bool = True, is_unattended: bool = False
) -> AsyncEngine:
    """An engine for a SQLAlchemy or libpq URL; nothing is connected yet. `SettingsError` if it cannot be read.

    `keeps_history`: whether the versions of codes that its transactions replace are kept. `is_unattended`: its
    transactions wait for no person and no pipe, so that one that stands still is given up.
    """
    engine = create_async_engine(
        "postgresql+psycopg://",
        connect_args={**connect_options(database_url), **OF_ENGINES},
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        use_native_hstore=False,  # looks for a type, wherever the session looks for names
        hide_parameters=True,  # values of codes must not reach an error's text
        execution_options={"preserve_rowcount": True, PLACES: Places(pool_size)},  # else an INSERT's row count is -1
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "handle_error", _leave_standby)
    refuse_at_connect(engine.sync_engine)
    settings = {KEEPS_HISTORY: "on" if keeps_history else "off"}
    if is_unattended:
        settings["idle_in_transaction_session_timeout"] = f"'{STANDSTILL_S}s'"
    begin_by_statement(engine.sync_engine, settings)
    return engine


def connect_options(database_url: str, setting: str = "DATABASE_URL") -> dict[str, Any]:
    """Connection parameters by libpq's own reading of the setting's URL, so that everything libpq understands works."""
    options = read_url(database_url, setting)
    options.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
    options.setdefault("application_name", "voucher-sync")
    # Without these, a line that was cut silently (a failover, a router that forgot it) is noticed after hours.
    options.setdefault("tcp_user_timeout", SILENCE_MS)
    options.setdefault("keepalives_idle", SILENCE_MS // 1000)
    # It decides how texts are sent and read, and no session is to be opened with another.
    options["client_encoding"] = "UTF8"
    # A transaction pooler hands each transaction another server connection, which knows no prepared statements.
    return {**options, "prepare_threshold": None}


@asynccontextmanager
async def transaction(engine: AsyncEngine, also: str = "") -> AsyncIterator[AsyncConnection]:
    """One transaction: committed at the end, rolled back on any error. Raises `DatabaseError` in its variants.

    `also`: statements that it begins with, in the same message.
    """
    began_s = time.monotonic()
    try:
        async with (
            asyncio.timeout(TRANSACTION_TIMEOUT_S),
            place(engine, POOL_TIMEOUT_S),
            engine.connect() as connection,
        ):
            tx = await connection.execution_options(**{ALSO: also})
            async with tx.begin():
                yield tx
    except DBAPIError as error:
        # Not chained: the detail of the database's error may hold a code's value, and a traceback would show it.
        found = _full(error.orig) if _is_one_too_many(error.orig, engine) else translate(error)
        if isinstance(found, DatabaseLocked):
            # The lock was waited for at the end of it. Who began later than the half has not held it all that time.
            found = await _with_blockers(engine, found, timedelta(seconds=(time.monotonic() - began_s) / 2))
        raise found from None
    except NotImplementedError as error:
        # As psycopg calls dates in a style that it cannot read; whatever else it cannot do is a fault of ours.
        if STYLE not in str(error):
            raise
        raise DatabaseError(UNREADABLE) from None  # psycopg's own error quotes the value that it cannot read
    except PoolTimeout as error:
        busy = f"all sessions of this process were busy for {POOL_TIMEOUT_S} s"
        raise DatabaseUnavailable(f"{busy}: raise SYNC_DATABASE_POOL, or see what keeps the database") from error
    except TimeoutError as error:
        raise DatabaseUnavailable(f"the database does not answer: no end within {TRANSACTION_TIMEOUT_S} s") from error


async def in_transaction(
    engine: AsyncEngine,
    work: Callable[[AsyncConnection], Awaitable[R]],
    opened: Opened = transaction,
    again_for_s: float | None = None,
) -> R:
    """What `work` returns, from a transaction that is begun anew where the database asks for it, and as long as it
    takes no more sessions; in the end `DatabaseBusy` or `DatabaseFull`. After `again_for_s` it is not begun anew.

    So `work` may run several times, and does nothing that its transaction's rollback does not undo.
    """
    began_s, failures = time.monotonic(), 0
    again_for_s = AGAIN_FOR_S if again_for_s is None else again_for_s
    while True:
        try:
            async with opened(engine) as tx:
                return await work(tx)
        except (DatabaseBusy, DatabaseFull):
            failures += 1
            if failures == MAX_TRIES or time.monotonic() - began_s >= again_for_s:
                raise
        await asyncio.sleep(AGAIN_AFTER.pause_s(failures, _rng))


def translate(error: DBAPIError) -> DatabaseError:
    """This service's error for one of the database's."""
    cause = error.orig
    if _is_told_full(cause):
        return _full(cause)
    sqlstate, words = _sqlstate(cause, error.statement), words_of(cause)
    is_of_users = is_of_users_function(cause)
    if not is_of_users and (state := _state_of_server(cause, sqlstate, words)):
        return state
    refusal = f"the database refused a statement ({sqlstate or 'before it was sent'}): {words}"
    is_for_rows = not is_about_statement(cause) or sqlstate == ROW_SECURITY
    if sqlstate is None or not is_for_rows or (sqlstate.startswith(NOT_FOR_ROWS) and not is_of_users):
        return DatabaseError(refusal)
    return StatementRefused(refusal, sqlstate, words)


def _state_of_server(cause: BaseException | None, sqlstate: str | None, words: str) -> DatabaseError | None:
    """What an error tells of the database as a whole, if it does."""
    if is_about_statement(cause) and sqlstate in MISSING:
        return NotMigrated(
            f"the database is not migrated to this version ({words}): run `voucher-sync migrate`; if that finds "
            "nothing to do, put back what was dropped or renamed by hand"
        )
    if is_lack_of_privilege(cause):
        return NotAllowed(
            f"this user of the database may not do that ({sqlstate}): {words}; let DATABASE_URL name the user that "
            "owns the schemas mews and sync, or is to make them"
        )
    if passing := PASSING.get(sqlstate or ""):
        kind = DatabaseUnavailable if sqlstate in GONE else DatabaseHindered
        return kind(f"the database {passing[0]} ({sqlstate}); {passing[1]}, then it works again")
    if sqlstate in BUSY:
        busy = DatabaseLocked if sqlstate == LOCKED else DatabaseBusy
        return busy(
            f"the database gave way to somebody else ({sqlstate}): {BUSY[sqlstate]}; nothing is lost, this is tried "
            "again; if it stays, see pg_stat_activity for transactions that are open for long"
        )
    return _state_of_line(cause, sqlstate, words)


def _state_of_line(cause: BaseException | None, sqlstate: str | None, words: str) -> DatabaseError | None:
    """What an error tells of the way to the database, if it does."""
    if sqlstate == PROTOCOL and STATEMENT_POOLING in words:
        return Unsuitable(
            f"DATABASE_URL leads to a pooler of statements ({words}), where no transactions are: set its pool_mode to "
            "transaction or session, or let DATABASE_URL lead past it"
        )
    if sqlstate is None and STARTUP_PARAMETER in words:
        return Unsuitable(
            f"DATABASE_URL leads to a pooler that takes no such setting of a session ({words}); none is needed: "
            "take `options` out of DATABASE_URL and unset PGOPTIONS and its like, or have the pooler ignore them "
            f"(ignore_startup_parameters){also_read()}"
        )
    if sqlstate is None and NOT_CONVERTED in words:
        return Unsuitable(other_encoding("the database", NOT_CONVERTED))
    is_lost = sqlstate is None and isinstance(cause, psycopg.OperationalError | psycopg.InterfaceError)
    if is_lost or (sqlstate or "").startswith(UNAVAILABLE_CLASSES):
        return DatabaseUnavailable(f"the database does not answer: {words}{also_read() if is_lost else ''}")
    return None


async def _with_blockers(engine: AsyncEngine, locked: DatabaseLocked, waited: timedelta) -> DatabaseLocked:
    """The error with who it is that holds the lock, as far as that can be seen still."""
    try:
        async with asyncio.timeout(ASK_FOR_S), engine.begin() as connection:
            found = await connection.run_sync(blockers, waited)
    except (DBAPIError, PoolTimeout, TimeoutError):
        return locked
    return DatabaseLocked(f"{locked}. {describe(found)}") if found else locked


def _is_told_full(cause: BaseException | None) -> bool:
    is_of_the_line = _is_without_session(cause) or getattr(cause, "sqlstate", None) == PROTOCOL
    return is_of_the_line and any(words in str(cause) for words in FULL_WORDS)


def _is_one_too_many(cause: BaseException | None, engine: AsyncEngine) -> bool:
    # Refused while others of this process are in use, they are too many.
    has_others = isinstance(engine.pool, QueuePool) and engine.pool.checkedout() > 0
    return has_others and _is_without_session(cause) and REFUSED.search(str(cause)) is not None


def _is_without_session(cause: BaseException | None) -> bool:
    # Only where no session was to be had, libpq gives no code.
    return isinstance(cause, psycopg.OperationalError) and cause.sqlstate is None


def _full(cause: BaseException | None) -> DatabaseFull:
    return DatabaseFull(
        f"the database takes no more connections ({FULL}): {words_of(cause)}; end other sessions, raise the CONNECTION "
        "LIMIT of role or database, its max_connections or a pooler's default_pool_size, or set SYNC_DATABASE_POOL=2, "
        "then it works again"
    )


def _leave_standby(context: ExceptionContext) -> None:
    # After a failover the address may lead to the new primary, while open sessions stay at the old one for ever.
    cause = context.original_exception
    if _sqlstate(cause, context.statement) == READ_ONLY and not is_of_users_function(cause):
        context.is_disconnect = True


def _sqlstate(cause: BaseException | None, statement: str | None) -> str | None:
    sqlstate: str | None = getattr(cause, "sqlstate", None)
    # A standby does not know of transactions that write, and says so when one begins.
    is_standby = sqlstate == UNSUPPORTED and (statement or "").startswith(BEGIN)
    return READ_ONLY if is_standby else sqlstate


def _prepare(dbapi_connection: Any, _record: object) -> None:
    send_binary(dbapi_connection.driver_connection)
    read_all_instants(dbapi_connection.driver_connection)
