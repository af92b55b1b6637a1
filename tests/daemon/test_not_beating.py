"""A replica that cannot show that it lives says so, also where it has no connection whose jobs would."""

import asyncio
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from sync.fleet.liveness import BEAT_S, DEAD_AFTER_S
from tests.migrations.helpers import execute
from tests.support.daemon import PATIENCE_S, UNSET, running
from tests.support.mirror import Mirror
from tests.support.proxy import Proxy
from tests.support.two_tokens import KEY

STORED_ONLY = {"MEWS_ACCESS_TOKEN": UNSET, "SYNC_SECRET_KEY": KEY}
ASKED_AGAIN = 6
"""More often than for the beat that is told of, whoever else asks."""


@pytest.mark.long
async def test_a_database_that_is_away_is_told_once(mirror: Mirror, tmp_path: Path) -> None:
    asked = asyncio.Semaphore(0)

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.release()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as away:
        nowhere = f"postgresql://someone@127.0.0.1:{away.sockets[0].getsockname()[1]}/vouchers"
        async with running(mirror, tmp_path, DATABASE_URL=nowhere, **STORED_ONLY) as daemon:
            told = await daemon.event("not_beating")
            assert (told["level"], "does not answer" in told["error"]) == ("warning", True)
            async with asyncio.timeout(PATIENCE_S):
                for _ in range(ASKED_AGAIN):
                    await asked.acquire()
            assert await daemon.stopped(signal.SIGTERM) == 0
            assert daemon.count("not_beating") == 1


@pytest.mark.long
async def test_what_refuses_its_sign_of_life_is_named_until_it_is_gone(mirror: Mirror, tmp_path: Path) -> None:
    execute(
        mirror.database_url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'",
        "CREATE TRIGGER refuse BEFORE INSERT ON sync.daemons FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    async with running(mirror, tmp_path, **STORED_ONLY) as daemon:
        assert "refuse" in (await daemon.event("not_beating"))["error"]
        execute(mirror.database_url, "DROP TRIGGER refuse ON sync.daemons")
        await daemon.event("beating_again")
        assert daemon.count("not_beating") == 1


@pytest.mark.long
async def test_a_database_that_goes_before_the_first_beat_is_told_by_the_jobs(mirror: Mirror, tmp_path: Path) -> None:
    """The environment's connection has its row by then, and nobody has it yet."""
    proxy = Proxy(mirror.database_url)

    def on_statement(statement: bytes) -> None:
        if b"sync.daemons" in statement:
            proxy.break_down()

    proxy.on_statement = on_statement
    async with mirror.served(), proxy.served(), running(mirror, tmp_path, DATABASE_URL=proxy.url) as daemon:
        await daemon.event("failing")
        assert await mirror.rows("SELECT name FROM sync.connections") == [{"name": "default"}]
        proxy.on_statement = lambda statement: None
        proxy.let_be()
        await daemon.event("recovered")
        assert await daemon.stopped(signal.SIGTERM) == 0


@pytest.mark.long
@pytest.mark.direct
async def test_a_line_that_falls_silent_at_a_beat_is_left_for_another_one_at_once(
    mirror: Mirror, tmp_path: Path
) -> None:
    beats_s: list[float] = []

    def on_statement(statement: bytes) -> None:
        if b"UPDATE sync.daemons" in statement:
            beats_s.append(time.monotonic())

    async with mirror.served(), Proxy(mirror.database_url).served() as proxy:
        proxy.on_statement = on_statement
        async with running(mirror, tmp_path, DATABASE_URL=proxy.url) as daemon:
            await daemon.event("pulled")
            beats_s.clear()
            proxy.silence_after(b"UPDATE sync.daemons")
            await daemon.event("beating_again")
    # By itself psycopg waits 5 s for the line that is left, and the next beat would have its usual pause.
    assert max(later_s - earlier_s for earlier_s, later_s in pairwise(beats_s)) < DEAD_AFTER_S - BEAT_S
