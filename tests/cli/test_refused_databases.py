"""A database that cannot do is refused by every command, before anything is made or sent, in one line."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from sync.core.errors import Unsuitable
from sync.postgres import requirements
from sync.postgres.engine import make_engine, transaction
from sync.postgres.migrations import migrate, revisions
from tests.support.hostile import new_login
from tests.support.mirror import Mirror
from tests.support.postgres import new_database
from tests.support.process import Ended, end, start

from .conftest import Cli

ADD = ["outbox", "add", "--voucher", "8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10", "A"]
WRITING = (
    ["migrate"],
    ["once"],
    ["run"],
    ADD,
    ["roles"],
    ["outbox", "retry", "--all"],
    ["audit", "--repair"],
    ["adopt"],
    ["connections", "pause", "default"],
    ["erase", "A", "--yes"],
)
OURS = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('mews', 'sync')"


@pytest.fixture(params=["LATIN1", "SQL_ASCII", "EUC_JP", "MULE_INTERNAL"])
def other_encoding(request: pytest.FixtureRequest, server_url: str) -> Iterator[tuple[str, str]]:
    """The name of an encoding that does not hold every code, and the URL of a database that has it."""
    with new_database(server_url, template="template0", encoding=request.param) as url:
        yield request.param, url


async def test_another_encoding_is_refused_before_anything_is_made(other_encoding: tuple[str, str]) -> None:
    encoding, url = other_encoding
    words = f"has the encoding {encoding}, which cannot hold every code: .* ENCODING 'UTF8' TEMPLATE template0"
    with pytest.raises(Unsuitable, match=words):
        migrate(url)
    with pytest.raises(Unsuitable, match=words):
        revisions(url)
    engine = make_engine(url)
    with pytest.raises(Unsuitable, match=words):
        async with transaction(engine):
            pass
    await engine.dispose()
    with psycopg.connect(url, client_encoding="SQL_ASCII") as session:
        assert session.execute(OURS).fetchone() == (0,)


def test_a_server_that_is_too_old_is_refused(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "OLDEST", 99)
    with pytest.raises(Unsuitable, match=r"the server is PostgreSQL \d+\.\d+, and this version needs 99 or newer"):
        migrate(empty_database_url)
    with psycopg.connect(empty_database_url) as session:
        assert session.execute(OURS).fetchone() == (0,)


async def all_of(cli: Cli, mirror: Mirror, commands: tuple[list[str], ...]) -> list[Ended]:
    """Runs commands at once."""
    return list(await asyncio.gather(*(cli(*command, settings=mirror.environment) for command in commands)))


@pytest.mark.long
async def test_every_command_says_so_in_one_line(cli: Cli, server_url: str) -> None:
    with new_database(server_url, template="template0", encoding="LATIN1") as url:
        mirror = Mirror(url)
        async with mirror.served():
            *ends, checked = await all_of(cli, mirror, (["migrate"], ["run"], ["check"]))
    for ended in ends:
        errors = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
        assert (ended.code, len(errors), "Traceback" in ended.stderr) == (1, 1, False), ended
        assert "has the encoding LATIN1" in errors[0]
    assert checked.code == 1
    assert "has the encoding LATIN1" in checked.stdout


@pytest.mark.long
async def test_a_newer_schema_is_refused_by_whatever_writes(cli: Cli, mirror: Mirror) -> None:
    with psycopg.connect(mirror.database_url, autocommit=True) as admin:
        admin.execute("UPDATE sync.alembic_version SET version_num = '9999'")
        async with mirror.served():
            ends = await all_of(cli, mirror, WRITING)
            asked = len(mirror.simulator.requests)
            checked = await cli("check", settings=mirror.environment)
        assert admin.execute("SELECT count(*) FROM mews.voucher_code_outbox").fetchone() == (0,)
        assert admin.execute("SELECT count(*) FROM sync.connections").fetchone() == (0,)
    for ended in ends:
        errors = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
        assert (ended.code, len(errors)) == (1, 1), ended
        assert "a newer voucher-sync migrated the database, to revision 9999" in errors[0]
        assert "run that one" in errors[0]
    assert checked.code == 1
    assert re.search(r"WRONG database: .* is at revision 9999, and .*\n +-> a newer voucher-sync", checked.stdout)
    assert asked == 0


async def test_an_older_schema_is_refused_with_the_next_step(cli: Cli, mirror: Mirror) -> None:
    with psycopg.connect(mirror.database_url, autocommit=True) as admin:
        admin.execute("UPDATE sync.alembic_version SET version_num = '0002'")
    async with mirror.served():
        for ended in await all_of(cli, mirror, (["once"], ADD)):
            errors = [line for line in ended.stderr.splitlines() if line.startswith("Error: ")]
            assert (ended.code, len(errors)) == (1, 1), ended
            assert "is at revision 0002, and " in errors[0]
            assert errors[0].endswith("run `voucher-sync migrate`")


@pytest.mark.long
async def test_a_running_daemon_goes_on_while_a_newer_release_migrates(mirror: Mirror) -> None:
    async with mirror.opened():
        await mirror.once()
        await mirror.execute("UPDATE sync.alembic_version SET version_num = '9999'")
        await mirror.connection.engine.dispose()  # all its sessions are new ones
        mirror.add_voucher("Autumn")
        await mirror.once()
        assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_mere_writer_need_not_see_the_revision(mirror: Mirror, tmp_path: Path) -> None:
    with new_login(mirror.database_url, "IN ROLE mews_writer") as url:
        ended = await end(await start(*ADD, settings={"DATABASE_URL": url}, directory=tmp_path))
    assert (ended.code, ended.stdout) == (0, "Row 1 is pending\n")
