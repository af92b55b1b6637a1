"""Waking up on NOTIFY."""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

import psycopg
from psycopg import sql

from sync.core.errors import Unsuitable
from sync.logger import structlog
from sync.postgres.engine import connect_options
from sync.postgres.requirements import refuse_unsuitable

CHANNEL = "voucher_sync_outbox"
ANYBODY = ""
"""What is said on it of changes of several connections, or of none yet."""
WORD_LENGTH = 16
QUIET_S = 30.0
"""After so long without a word the connection is tried: a line that was cut silently would never say another."""
RECONNECT_S = 2.0
TOGETHER_S = 0.005
"""What comes so shortly after a word wakes once more, however much it is: any user of the database may flood us."""
AGAIN_AFTER_S = (0.1, 1.0)
"""So long after the last word it wakes again. Of those who queue at once only some notify, and theirs may be committed
before what the others queued: without these looks, that would wait for the slow poll. As words come one after another
the first of them is not put off."""
# A server that ends idle sessions is spoken to more often; it counts in milliseconds, 0 for never.
IDLE_TIMEOUT = "SELECT setting FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'idle_session_timeout'"
LOCK = "SELECT pg_catalog.pg_try_advisory_lock(CAST(%s AS bigint))"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Listener:
    """Whom to wake, at words of the outbox and of any other channel of `on_other`; `lock`: the number of an advisory
    lock that the session keeps, and `on_lock` is told whether it does.

    `on_word` gets the words, each of a connection, as `word_of` has it, or `ANYBODY`.
    """

    on_word: Callable[[Collection[str]], None]
    on_other: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    lock: int | None = None
    on_lock: Callable[[bool], None] = lambda is_held: None


def word_of(connection: str) -> str:
    """What the outbox's trigger says of changes of this connection alone: whoever listens hears no name."""
    return sha256(connection.encode()).hexdigest()[:WORD_LENGTH]


async def listen(database_url: str, listener: Listener, is_tried: asyncio.Event) -> None:
    """Wake for notifications, and after every reconnection, since some may have been missed.

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
                quiet_s = await _begin(connection, listener)
                log.debug("listening", channel=CHANNEL)
                is_tried.set()
                await _hear(connection, listener, quiet_s)
        except (psycopg.Error, TimeoutError, Unsuitable) as error:
            log.debug("not_listening", channel=CHANNEL, error=type(error).__name__)
            is_tried.set()
        finally:
            listener.on_lock(False)
        await asyncio.sleep(RECONNECT_S)


async def _begin(connection: psycopg.AsyncConnection, listener: Listener) -> float:
    """Listen; after how many quiet seconds the connection is to be tried."""
    row = await (await connection.execute(IDLE_TIMEOUT)).fetchone()
    if listener.lock is not None:
        # A session that was lost may keep it for a while yet: then this one does without.
        locked = await (await connection.execute(LOCK, [listener.lock])).fetchone()
        listener.on_lock(bool(locked and locked[0]))
    for channel in (*listener.on_other, CHANNEL):
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    idle_s = int(row[0]) / 1000 if row else 0
    return min(QUIET_S, idle_s / 2) if idle_s else QUIET_S


async def _hear(connection: psycopg.AsyncConnection, listener: Listener, quiet_s: float) -> None:
    """Wake at once, at every word and some time after the last one; try the connection where none comes. No end."""
    _wake(listener, {name: {ANYBODY} for name in (CHANNEL, *listener.on_other)})
    looks = deque[float]()
    while True:
        wait_s = max(0.0, looks[0] - time.monotonic()) if looks else quiet_s
        heard = await _heard(connection, wait_s, stop_after=1)
        if heard:
            _wake(listener, heard)
            more = await _heard(connection, TOGETHER_S)
            _wake(listener, more)
            heard |= more
        elif not looks:
            async with asyncio.timeout(QUIET_S):
                await connection.execute("SELECT 1")
        now_s = time.monotonic()
        if looks and looks[0] <= now_s:  # whatever words have come
            looks.popleft()
            listener.on_word([ANYBODY])
        if CHANNEL in heard:
            soon, late = (now_s + after_s for after_s in AGAIN_AFTER_S)
            looks = deque([looks[0] if len(looks) > 1 else soon, late])


def _wake(listener: Listener, heard: Mapping[str, Collection[str]]) -> None:
    if words := heard.get(CHANNEL):
        listener.on_word(words)
    for channel in heard.keys() & listener.on_other.keys():
        listener.on_other[channel]()


async def _heard(
    connection: psycopg.AsyncConnection, timeout_s: float, stop_after: int | None = None
) -> dict[str, set[str]]:
    """What was said, by channel; of the outbox's what is no word is for anybody."""
    heard = defaultdict[str, set[str]](set)
    async for notify in connection.notifies(timeout=timeout_s, stop_after=stop_after):
        heard[notify.channel].add(notify.payload if len(notify.payload) == WORD_LENGTH else ANYBODY)
    return heard
