"""The triggers and functions are those of the files in force, and the migration that loads them disturbs nobody."""

from pathlib import Path

import psycopg
import pytest
from alembic import command
from psycopg.conninfo import conninfo_to_dict

import sync.connection
import sync.mirror
import sync.outbox
from sync.postgres import migrations
from sync.schema import triggers
from tests.migrations.helpers import (
    CHECKOUT,
    FUNCTIONS,
    TRIGGERS,
    alembic,
    everything,
    execute,
    query,
    scripts,
    upgrade,
)
from tests.support.hostile import new_owner
from tests.support.queue import VOUCHER

IN_FORCE = (
    Path(sync.outbox.__file__).with_name("triggers.sql"),
    Path(sync.mirror.__file__).with_name("history.sql"),
    Path(sync.connection.__file__).with_name("connections.sql"),
)
NOBODY_CALLS_THEM = "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA sync FROM PUBLIC"
AT = "0011"
BEFORE = str(scripts().get_revision(AT).down_revision)
TABLE = "mews.voucher_code_outbox"
INSERT = f"INSERT INTO {TABLE} (operation, voucher_id, value) VALUES ('{{}}', '{VOUCHER}', 'SUMMER')"
WITNESS = f"""
CREATE TABLE public.seen (number serial, event text, name text, status text, is_filled_in boolean);
CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO public.seen (event, name, status, is_filled_in)
    VALUES (TG_OP, TG_NAME, NEW.status, NEW.queued_by IS NOT NULL);
  RETURN NEW;
END $$;
CREATE TRIGGER check_a BEFORE INSERT OR UPDATE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION public.see();
CREATE TRIGGER check_z BEFORE INSERT OR UPDATE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION public.see();
"""


@pytest.fixture
def before_url(empty_database_url: str) -> str:
    """A database that the migration is still to come to."""
    upgrade(empty_database_url, BEFORE)
    return empty_database_url


def to_it(url: str) -> None:
    upgrade(url, AT)


def downgrade(url: str) -> None:
    with alembic(url) as config:
        command.downgrade(config, BEFORE)


def functions_and_triggers(url: str) -> list[tuple[object, ...]]:
    return sorted(query(url, FUNCTIONS)) + sorted(query(url, TRIGGERS))


def test_a_migrated_database_holds_the_files_in_force_and_nothing_else(database_url: str) -> None:
    migrated = functions_and_triggers(database_url)
    assert sorted((str(table), str(name)) for table, name, *_ in query(database_url, TRIGGERS)) == sorted(triggers())
    for table, name, _, _ in query(database_url, TRIGGERS):
        execute(database_url, f"DROP TRIGGER {name} ON {table}")
    for function, *_ in query(database_url, FUNCTIONS):
        execute(database_url, f"DROP FUNCTION {function} CASCADE")  # views call some
    assert functions_and_triggers(database_url) == []
    execute(database_url, *(path.read_text(encoding="ascii") for path in IN_FORCE), NOBODY_CALLS_THEM)
    assert functions_and_triggers(database_url) == migrated


@pytest.mark.parametrize("in_force", IN_FORCE, ids=lambda path: path.name)
def test_the_newest_version_that_a_migration_loads_is_the_file_in_force(in_force: Path) -> None:
    title, _, _ = in_force.read_text(encoding="ascii").partition("\n")
    versions = sorted((CHECKOUT / "migrations" / "versions").glob("*.sql"))
    assert all(version.with_suffix(".py").is_file() for version in versions)
    of_this = [version for version in versions if version.read_text(encoding="ascii").startswith(f"{title}\n")]
    assert of_this[-1].read_bytes() == in_force.read_bytes()


def test_no_writer_is_waited_for(before_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT_S", 0.05)
    with psycopg.connect(before_url) as writer:
        writer.execute(INSERT.format("add").encode())
        to_it(before_url)
        downgrade(before_url)


def test_an_owner_s_rights_and_switches_stay_whoever_migrates(before_url: str) -> None:
    with new_owner(before_url) as owner_url:
        name = conninfo_to_dict(owner_url)["user"]
        for function, *_ in query(before_url, FUNCTIONS):
            execute(before_url, f"ALTER FUNCTION {function} OWNER TO {name}")
        execute(before_url, f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER check_update, DISABLE TRIGGER wake")
        to_it(before_url)
        assert {owned_by for _, _, owned_by, _ in query(before_url, FUNCTIONS)} == {name}
        switches = {trigger: switch for _, trigger, switch, _ in query(before_url, TRIGGERS)}
        assert switches == {"check_insert": "O", "check_update": "A", "fill_in_state": "O", "wake": "D"}


def test_triggers_of_users_keep_their_places(before_url: str) -> None:
    execute(before_url, WITNESS)
    for step in (lambda _: None, to_it, downgrade):
        step(before_url)
        execute(before_url, INSERT.format("add"), INSERT.format("delete"))
        assert query(before_url, "SELECT event, name, status, is_filled_in FROM public.seen ORDER BY number") == [
            ("INSERT", "check_a", "pending", False),
            ("INSERT", "check_z", "pending", True),
            ("INSERT", "check_a", "pending", False),
            ("UPDATE", "check_a", "cancelled", True),
            ("UPDATE", "check_z", "cancelled", True),
            ("INSERT", "check_z", "cancelled", True),
        ]
        execute(before_url, "DELETE FROM public.seen")


def test_a_session_that_has_used_the_functions_before_uses_the_new_ones(before_url: str) -> None:
    with psycopg.connect(before_url, autocommit=True) as writer:
        for step in (lambda _: None, to_it, downgrade, to_it):
            step(before_url)
            writer.execute(INSERT.format("add").encode())
            writer.execute(INSERT.format("delete").encode())
    assert query(before_url, f"SELECT DISTINCT status FROM {TABLE}") == [("cancelled",)]


@pytest.mark.long
def test_the_way_back_restores_what_was(before_url: str) -> None:
    before = everything(before_url)
    to_it(before_url)
    assert everything(before_url) != before
    downgrade(before_url)
    assert everything(before_url) == before
