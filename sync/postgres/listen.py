"""Waking up on NOTIFY."""

import asyncio
from collections.abc import Callable, Iterator

import psycopg
import structlog
from psycopg import sql

from sync.core.errors import Unsuitable
from sync.postgres.engine import connect_options
from sync.postgres.requirements import refuse_unsuitable

CHANNEL = "voucher_sync_outbox"
QUIET_S = 30.0
"""After so long without a word the connection is tried: a line that was cut silently would never say another."""
RECONNECT_S = 2.0
TOGETHER_S = 0.005
"""What comes so shortly after a word wakes once more, however much it is: any user of the database may flood us."""
AGAIN_AFTER_S = (0.1, 1.0)
"""So long after the last word it wakes again. Of those who queue at once only some notify, and theirs may be committed
before what the others queued: without these looks, that would wait for the slow poll."""
# A server that ends idle sessions is spoken to more often; it counts in milliseconds, 0 for never.
IDLE_TIMEOUT = "SELECT setting::int / 1000.0 FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout'"

log = structlog.get_logger()


async def listen(database_url: str, on_word: Callable[[], None], is_tried: asyncio.Event) -> None:
    """Call `on_word` for notifications, and after every reconnection, since some may have been missed.

    `is_tried` is set once it is known whether it can listen at all: where a database takes few sessions, those that
    others keep open would leave none for this one.

    Goes on until it is cancelled. Whoever cannot be reached this way, as through a transaction pooler, is left to the
    slow poll. All that comes is read at once, since what a listener leaves unread fills the server's queue, and with a
    full one no transaction that notifies can commit.
    """
    options = {**connect_options(database_url), "autocommit": True}
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(**options) as connection:
                refuse_unsuitable(connection.info)
                quiet_s = await _begin(connection)
                log.debug("listening", channel=CHANNEL)
                is_tried.set()
                await _hear(connection, on_word, quiet_s)
        except (psycopg.Error, TimeoutError, Unsuitable) as error:
            log.debug("not_listening", channel=CHANNEL, error=type(error).__name__)
            is_tried.set()
        await asyncio.sleep(RECONNECT_S)


async def _begin(connection: psycopg.AsyncConnection) -> float:
    """Listen; after how many quiet seconds the connection is to be tried."""
    row = await (await connection.execute(IDLE_TIMEOUT)).fetchone()
    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
    return min(QUIET_S, float(row[0]) / 2) if row and row[0] else QUIET_S


async def _hear(connection: psycopg.AsyncConnection, on_word: Callable[[], None], quiet_s: float) -> None:
    """Wake at once, at every word and some time after the last one; try the connection where none comes. No end."""
    on_word()
    again: Iterator[float] = iter(())
    while True:
        wait_s = next(again, None)
        if await _heard(connection, wait_s or quiet_s, stop_after=1):
            on_word()
            if await _heard(connection, TOGETHER_S):
                on_word()
            again = iter(AGAIN_AFTER_S)
        elif wait_s:
            on_word()
        else:
            async with asyncio.timeout(QUIET_S):
                await connection.execute("SELECT 1")


async def _heard(connection: psycopg.AsyncConnection, timeout_s: float, stop_after: int | None = None) -> int:
    heard = 0
    async for _ in connection.notifies(timeout=timeout_s, stop_after=stop_after):
        heard += 1
    return heard
