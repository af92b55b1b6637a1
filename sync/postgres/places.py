"""Waiting for one of an engine's sessions, before the engine is asked for it.

SQLAlchemy runs each transaction on a stack of its own, of tens of kilobytes, and has whoever finds no free session wait
on it. Where thousands of connections begin at once, those stacks would be most of what a process ever needs.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

PLACES = "places"
"""An execution option of an engine: a semaphore with a place for each of its sessions."""


def places(sessions: int) -> dict[str, asyncio.Semaphore]:
    """The execution option of an engine that has so many sessions."""
    return {PLACES: asyncio.Semaphore(sessions)}


@asynccontextmanager
async def place(engine: AsyncEngine, within_s: float) -> AsyncIterator[None]:
    """A place for a session, first come first served. Raises `PoolTimeout` where there is none within so long."""
    free: asyncio.Semaphore = engine.get_execution_options()[PLACES]
    try:
        async with asyncio.timeout(within_s):
            await free.acquire()
    except TimeoutError as error:
        raise PoolTimeout(f"no session was free for {within_s:g} s") from error
    try:
        yield
    finally:
        free.release()
