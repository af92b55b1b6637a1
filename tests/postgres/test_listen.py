"""Every word wakes, a flood of them only now and then, and a session that is lost is opened anew."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress

import psycopg
import pytest

from sync.postgres import listen as module
from sync.postgres.listen import ANYBODY, CHANNEL, Listener, listen, word_of
from tests.support.database import PATIENCE_S
from tests.support.hostile import alter
from tests.support.postgres import database_of
from tests.support.proxy import Proxy

OTHER = "another_channel"
FLOOD = 20_000
SINGLE = 500
NOTIFY = f"SELECT pg_notify('{CHANNEL}', number::text) FROM generate_series(1, %s) AS number"
LISTENERS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'LISTEN%' AND pid <> pg_backend_pid()
"""


class Sleeper:
    """Counts how often it is woken."""

    def __init__(self) -> None:
        self.times = 0
        self.words: list[str] = []
        self._woken = asyncio.Event()

    def wake(self, words: Collection[str] = ()) -> None:
        self.times += 1
        self.words += [*words]
        self._woken.set()

    async def woken(self) -> None:
        """Waits until it is woken once more than when it was last waited for."""
        async with asyncio.timeout(PATIENCE_S):
            await self._woken.wait()
        self._woken.clear()


@asynccontextmanager
async def woken_by(database_url: str) -> AsyncIterator[Sleeper]:
    """Who listens there."""
    sleeper = Sleeper()
    listening = asyncio.create_task(listen(database_url, Listener(sleeper.wake), asyncio.Event()))
    yield sleeper
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECONNECT_S", 0.01)
    monkeypatch.setattr(module, "AGAIN_AFTER_S", (0.02, 0.05))


@pytest.fixture
async def sleeper(database_url: str) -> AsyncIterator[Sleeper]:
    """One who waits for the next word."""
    async with woken_by(database_url) as sleeper:
        await sleeper.woken()
        yield sleeper


@pytest.fixture
async def stranger(database_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as stranger:
        yield stranger


async def test_a_flood_of_words_wakes_seldom_and_leaves_nothing_in_the_servers_queue(
    sleeper: Sleeper, stranger: psycopg.AsyncConnection
) -> None:
    await stranger.execute(NOTIFY, [FLOOD])
    await sleeper.woken()
    async with asyncio.timeout(PATIENCE_S):
        while await (await stranger.execute("SELECT pg_notification_queue_usage()")).fetchone() != (0.0,):
            pass
    assert sleeper.times < FLOOD / 20
    # Nor is a single word lost behind it.
    await stranger.execute(NOTIFY, [1])
    await sleeper.woken()


async def test_so_does_a_flood_of_transactions_that_come_one_by_one(
    sleeper: Sleeper, stranger: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOGETHER_S", 0.2)
    began_s, before = time.monotonic(), sleeper.times
    for _ in range(SINGLE):
        await stranger.execute(NOTIFY, [1])
    lasted_s = time.monotonic() - began_s
    assert sleeper.times - before <= 2 * lasted_s / module.TOGETHER_S + 10


async def test_after_the_last_word_it_wakes_some_more_times_for_what_was_committed_since(
    sleeper: Sleeper, stranger: psycopg.AsyncConnection
) -> None:
    for _ in range(2):
        await stranger.execute(NOTIFY, [1])
        for _ in (CHANNEL, *module.AGAIN_AFTER_S):
            await sleeper.woken()


async def test_a_word_of_one_connection_is_told_as_it_is_and_any_other_concerns_anybody(
    sleeper: Sleeper, stranger: psycopg.AsyncConnection
) -> None:
    for word, told in ((word_of("hotel"), word_of("hotel")), ("", ANYBODY), ("hotel", ANYBODY)):
        sleeper.words.clear()
        await stranger.execute("SELECT pg_notify(%s, %s)", [CHANNEL, word])
        await sleeper.woken()
        assert sleeper.words == [told]
        for _ in module.AGAIN_AFTER_S:
            await sleeper.woken()
        assert sleeper.words == [told, ANYBODY, ANYBODY]


async def test_words_that_go_on_put_off_no_look_for_what_nobody_told_of(
    sleeper: Sleeper, stranger: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_AFTER_S", (0.2, 3600.0))
    sleeper.words.clear()
    async with asyncio.timeout(PATIENCE_S):
        while ANYBODY not in sleeper.words:
            await stranger.execute("SELECT pg_notify(%s, %s)", [CHANNEL, word_of("hotel")])


async def test_words_of_others_put_off_none_of_these_looks(
    database_url: str, stranger: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_AFTER_S", (0.2, 0.4))
    sleeper, others = Sleeper(), Sleeper()
    listener = Listener(sleeper.wake, {OTHER: others.wake})
    listening = asyncio.create_task(listen(database_url, listener, asyncio.Event()))
    await sleeper.woken()
    await stranger.execute(NOTIFY, [1])
    for _ in (CHANNEL, *module.AGAIN_AFTER_S):
        for _ in range(3):
            await stranger.execute("SELECT pg_notify(%s, '')", [OTHER])
            await others.woken()
        await sleeper.woken()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_a_session_that_is_cut_is_opened_anew(sleeper: Sleeper, stranger: psycopg.AsyncConnection) -> None:
    (pid,) = await (await stranger.execute(LISTENERS)).fetchone() or (None,)
    await stranger.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])
    await sleeper.woken()
    await stranger.execute(NOTIFY, [1])
    await sleeper.woken()


@pytest.mark.long
async def test_a_line_that_fell_silent_is_given_up_and_another_one_opened(
    database_url: str, stranger: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.5)
    async with Proxy(database_url).served() as proxy:
        proxy.silence_after(b"LISTEN")
        async with woken_by(proxy.url) as sleeper:
            await sleeper.woken()
            await stranger.execute(NOTIFY, [1])
            await proxy.swallowed.wait()
            # Woken by the new session itself, for what was missed, and again by the next word.
            await sleeper.woken()
            await stranger.execute(NOTIFY, [1])
            await sleeper.woken()


async def test_a_server_that_ends_idle_sessions_is_spoken_to_before_it_does(
    database_url: str, stranger: psycopg.AsyncConnection
) -> None:
    await stranger.execute(alter("DATABASE", database_of(database_url), {"idle_session_timeout": "'5s'"}))
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        assert await module._begin(connection, Listener(lambda _words: None)) == 2.5
