"""`voucher-sync migrate`."""

import asyncio

import psycopg
import pytest

from sync.postgres.migrations import revisions

from .conftest import Cli


@pytest.mark.long
async def test_an_empty_database_is_migrated_and_then_left_alone(cli: Cli, empty_database_url: str) -> None:
    first = await cli("migrate", settings={"DATABASE_URL": empty_database_url})
    at, needed = revisions(empty_database_url)
    assert at == needed
    assert (first.code, first.stdout) == (0, f"The database is at revision {at} now (before: empty).\n")
    again = await cli("migrate", settings={"DATABASE_URL": empty_database_url})
    assert (again.code, again.stdout) == (0, f"The database is at revision {at} already.\n")
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM mews.voucher_codes").fetchone() == (0,)


@pytest.mark.long
async def test_several_at_once_do_not_disturb_each_other(cli: Cli, empty_database_url: str) -> None:
    settings = {"DATABASE_URL": empty_database_url}
    ends = await asyncio.gather(*(cli("migrate", settings=settings) for _ in range(3)))
    assert [ended.code for ended in ends] == [0, 0, 0], ends
    at, needed = revisions(empty_database_url)
    assert at == needed


@pytest.mark.long
async def test_a_url_of_sqlalchemys_will_do(cli: Cli, empty_database_url: str) -> None:
    url = empty_database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    ended = await cli("migrate", settings={"DATABASE_URL": url})
    assert ended.code == 0, ended.stderr


async def test_a_database_that_cannot_be_reached(cli: Cli, unreachable_url: str) -> None:
    ended = await cli("migrate", settings={"DATABASE_URL": unreachable_url})
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: the database does not answer: ")
    assert "Connection refused" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


async def test_a_database_that_does_not_exist(cli: Cli, empty_database_url: str) -> None:
    ended = await cli("migrate", settings={"DATABASE_URL": empty_database_url.replace("/test_", "/no_test_")})
    assert ended.code == 1
    assert "does not exist" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
