"""An empty outbox for each test, in one database for all tests of a file."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.postgres.engine import make_engine
from tests.support.pooler import in_front_of
from tests.support.postgres import new_database
from tests.support.queue import Outbox, emptied
from tests.support.users import login, user


@pytest.fixture(scope="module")
def database_url(server_url: str, template: str) -> Iterator[str]:
    """A copy of the database for each test would take longer than the tests themselves."""
    with new_database(server_url, template=template) as url, in_front_of(url):
        yield url


@pytest.fixture
async def outbox(engine: AsyncEngine) -> Outbox:
    """An empty outbox; one voucher is known."""
    return await emptied(engine)


@pytest.fixture
async def writer(outbox: Outbox, database_url: str) -> AsyncIterator[Outbox]:
    async with user(database_url, "mews_writer") as writer:
        yield writer


@pytest.fixture
async def reader(outbox: Outbox, database_url: str) -> AsyncIterator[Outbox]:
    async with user(database_url, "mews_reader") as reader:
        yield reader


@pytest.fixture
async def operator(outbox: Outbox, database_url: str) -> AsyncIterator[Outbox]:
    async with user(database_url, "mews_operator") as operator:
        yield operator


@pytest.fixture
async def app(outbox: Outbox, database_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """An application, which may write."""
    with login(database_url, member_of="mews_writer") as url:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            yield connection


@pytest.fixture
def unused_url(server_url: str, template: str) -> Iterator[str]:
    """A database of its own: what is known of a table outlives its rows."""
    with new_database(server_url, template=template) as url:
        yield url


@pytest.fixture
async def unused(unused_url: str) -> AsyncIterator[Outbox]:
    engine = make_engine(unused_url)
    yield await emptied(engine)
    await engine.dispose()
