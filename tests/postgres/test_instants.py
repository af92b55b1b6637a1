"""Instants that PostgreSQL can tell and Python cannot."""

import psycopg
import pytest
from sqlalchemy import text

from sync.postgres.engine import make_engine, transaction
from sync.postgres.instants import FIRST, LAST


@pytest.mark.parametrize(
    ("told", "read"),
    [("infinity", LAST), ("-infinity", FIRST), ("20000-01-01 00:00+00", LAST), ("0044-03-15 12:00+00 BC", FIRST)],
)
async def test_they_are_read_as_the_first_or_the_last_one(database_url: str, told: str, read: object) -> None:
    engine = make_engine(database_url)
    async with transaction(engine) as tx:
        statement = text(f"SELECT CAST('{told}' AS timestamptz) AS at, CAST('9999-12-31 23:59:59+00' AS timestamptz)")
        row = (await tx.execute(statement)).one()
    await engine.dispose()
    assert (row[0], row[1].isoformat()) == (read, "9999-12-31T23:59:59+00:00")


def test_psycopg_itself_fails_the_answer(database_url: str) -> None:
    """Once it does not, nothing is to be done here any more."""
    with psycopg.connect(database_url) as session, pytest.raises(psycopg.DataError):
        session.execute("SELECT CAST('infinity' AS timestamptz)").fetchall()
