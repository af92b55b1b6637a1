"""Other users of the same database."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sync.postgres.engine import make_engine
from tests.support.queue import Outbox

PASSWORD = "not-a-secret"


@contextmanager
def login(database_url: str, *, member_of: str | None = None) -> Iterator[str]:
    """The URL of the same database for a new user, who is gone afterwards."""
    name = f"test_{uuid4().hex}"
    member = sql.SQL("IN ROLE {}").format(sql.Identifier(member_of)) if member_of else sql.SQL("")
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} {}").format(sql.Identifier(name), sql.Literal(PASSWORD), member)
        )
    yield make_conninfo(database_url, user=name, password=PASSWORD)
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@asynccontextmanager
async def user(database_url: str, role: str) -> AsyncIterator[Outbox]:
    """The outbox as a user with this role sees it."""
    with login(database_url, member_of=role) as url:
        engine = make_engine(url)
        yield Outbox(engine)
        await engine.dispose()
