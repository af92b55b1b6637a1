"""Waking up on NOTIFY."""

import asyncio
from collections.abc import Callable

import psycopg
import structlog
from psycopg import sql

from sync.db.engine import connect_options

CHANNEL = "voucher_sync_outbox"
QUIET_S = 30.0
"""After so long without a word the connection is tried: a line that was cut silently would never say another."""
RECONNECT_S = 2.0

log = structlog.get_logger()


async def listen(database_url: str, on_word: Callable[[], None]) -> None:
    """Call `on_word` for every notification, and after every reconnection, since some may have been missed.

    Goes on until it is cancelled. Whoever cannot be reached this way, as through a transaction pooler, is left to the
    slow poll.
    """
    options = {**connect_options(database_url), "prepare_threshold": None}
    while True:
        try:
            async with await psycopg.AsyncConnection.connect(**options, autocommit=True) as connection:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                log.debug("listening", channel=CHANNEL)
                on_word()
                while True:
                    async for _ in connection.notifies(timeout=QUIET_S, stop_after=1):
                        on_word()
                    async with asyncio.timeout(QUIET_S):
                        await connection.execute("SELECT 1")
        except (psycopg.Error, TimeoutError) as error:
            log.debug("not_listening", channel=CHANNEL, error=type(error).__name__)
        await asyncio.sleep(RECONNECT_S)
