"""No operator or function that a stranger made in the schema `public`, as everybody may up to PostgreSQL 14, is called
by what runs as the mirror's owner.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import running
from tests.support.hostile import new_login
from tests.support.mirror import Mirror
from tests.support.strangers import is_any_asked, let_in_strangers

from .conftest import SHOWN_SOON, Cli
from .outbox.helpers import query


@pytest.fixture
def stranger(database_url: str) -> Iterator[None]:
    """He has made all that he could."""
    with new_login(database_url) as url:
        let_in_strangers(database_url, url)
        yield


@pytest.mark.usefixtures("stranger")
async def test_commands_ask_no_stranger(cli: Cli, mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "codes.csv").write_text("value\nIMPORTED-1\nIMPORTED-2\n")
    commands = (
        "once", "outbox add --voucher Summer ADDED", "outbox import --voucher Summer --unique portfolio codes.csv",
        "outbox generate --voucher Summer --count 2 --pattern G-????", "outbox delete --voucher Summer A", "once",
        "audit --repair", "status", "status --json", "outbox list", "outbox show 1", "outbox reasons", "outbox export",
        "vouchers", "connections list", "connections pause default", "connections resume default", "erase --yes ADDED",
        "roles",
    )  # fmt: skip
    async with mirror.served():
        for command in commands:
            ended = await cli(*command.split(), settings=mirror.environment | SHOWN_SOON)
            assert ended.code == 0, (command, ended)
        assert "WRONG" not in (await cli("check", settings=mirror.environment)).stdout
    assert not is_any_asked(mirror.database_url)


@pytest.mark.usefixtures("stranger")
async def test_nor_does_a_daemon(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.served(), running(mirror, tmp_path, SYNC_LOG_LEVEL="debug") as daemon:
        await daemon.event("listening")
        await daemon.event("pulled")
    assert not is_any_asked(mirror.database_url)


async def test_nor_does_a_migration_and_what_it_makes_has_none_of_theirs(cli: Cli, empty_database_url: str) -> None:
    theirs = (
        "SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend, pg_operator AS operator "
        "WHERE refclassid = CAST('pg_operator'::regclass AS oid) AND refobjid = operator.oid "
        "AND oprnamespace = CAST('public'::regnamespace AS oid)"
    )
    with new_login(empty_database_url) as url:
        let_in_strangers(empty_database_url, url)
        ended = await cli("migrate", settings={"DATABASE_URL": empty_database_url})
        assert ended.code == 0, ended
        assert query(empty_database_url, theirs) == []
        assert not is_any_asked(empty_database_url)
