"""`voucher-sync roles`, and that a migration says where it is needed."""

from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner

from sync.cli.commands import voucher_sync
from sync.service import roles
from tests.support.hostile import new_owner
from tests.support.mirror import Mirror
from tests.support.users import login

from .conftest import Cli


async def test_it_grants_what_is_missing_and_says_who_is_ready(cli: Cli, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("REVOKE SELECT ON mews.voucher_codes FROM mews_reader")
    ended = await cli("roles", settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stderr) == (0, "")
    granted, reader, writer, operator = ended.stdout.splitlines()
    assert granted == "Granted what was missing."
    assert reader.startswith("mews_reader is ready, members: ")
    assert writer.startswith("mews_writer is ready, members: ")
    assert operator.startswith("mews_operator is ready, members: ")


@pytest.mark.long
async def test_an_operator_s_login_is_enough_to_ask_how_it_goes(cli: Cli, mirror: Mirror, database_url: str) -> None:
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
    with login(database_url, member_of="mews_operator") as url:
        for call in (
            ("status",),
            ("status", "--json"),
            ("status", "--strict"),
            ("status", "--connection", "default"),
            ("connections", "list"),
            ("vouchers",),
            ("outbox", "list"),
            ("outbox", "reasons"),
            ("outbox", "export"),
        ):
            ended = await cli(*call, settings={"DATABASE_URL": url})
            assert (ended.code, "denied" in ended.stderr) == (0, False), call


@pytest.mark.long
def test_a_migration_and_then_roles_say_what_somebody_else_must_run(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{constant.lower()}_{uuid4().hex}" for constant in ("READER", "WRITER", "OPERATOR")]
    for constant, name in zip(("READER", "WRITER", "OPERATOR"), names, strict=True):
        monkeypatch.setattr(roles, constant, name)
    with new_owner(empty_database_url) as url:
        migrated, made = (
            CliRunner().invoke(voucher_sync, [one], env={"DATABASE_URL": url}) for one in ("migrate", "roles")
        )
    assert migrated.exit_code == 0
    assert f"Note: {' and '.join(names)} cannot be used yet: run `voucher-sync roles`" in migrated.stderr
    assert made.exit_code == 1
    assert made.stdout.splitlines() == [
        *(f"{name} is missing" for name in names),
        "Somebody who may do that must run this in the database; then run `voucher-sync roles` again:",
        "",
        *(f'CREATE ROLE "{name}" NOLOGIN;' for name in names),
    ]
