"""A line to the database that falls silent is let go of before it costs more than what was asked over it."""

import asyncio
import time

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.postgres.engine import make_engine, transaction
from tests.support.proxy import Proxy

BY_ITSELF_S = {"line": 5.0, "route": 10.0}
"""What psycopg takes for it without us."""


async def _ask(tx: AsyncConnection) -> None:
    await tx.execute(text("SELECT 'asked'"))


async def _took_s(engine: AsyncEngine, proxy: Proxy, *, is_route: bool) -> float:
    """How long it takes to stop waiting for a line, or for all there are, that fell silent within a transaction."""
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(None) as limit, transaction(engine) as tx:
            proxy.silence_after(b"'asked'")
            await _ask(tx)
            if is_route:
                proxy.hold()
            began_s = time.monotonic()
            limit.reschedule(asyncio.get_running_loop().time())
            await _ask(tx)
    except TimeoutError:
        return time.monotonic() - began_s
    raise AssertionError("it was answered")


@pytest.mark.direct
@pytest.mark.parametrize("silent", BY_ITSELF_S)
async def test_what_fell_silent_is_let_go_of_sooner_than_by_psycopg(database_url: str, silent: str) -> None:
    async with Proxy(database_url).served() as proxy:
        engine = make_engine(proxy.url)
        try:
            assert await _took_s(engine, proxy, is_route=silent == "route") < BY_ITSELF_S[silent]
            proxy.let_be()
            async with transaction(engine) as tx:
                await _ask(tx)
        finally:
            await engine.dispose()


async def test_a_statement_that_is_waited_for_no_longer_is_ended_by_the_server(database_url: str) -> None:
    engine = make_engine(database_url)
    sleeping = text(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()"
    )
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0), transaction(engine) as tx:
                await tx.execute(text("SELECT pg_sleep(600)"))
        async with transaction(engine) as tx:
            assert (await tx.execute(sleeping)).scalar_one() == 0
    finally:
        await engine.dispose()
