"""Each line of what is required of a database is looked at, and says what to do where it is not so."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection

from sync.cli import check_database as module
from sync.cli.check_database import check_database
from sync.cli.check_line import CheckLine
from sync.cli.check_listening import check_listening
from sync.core.errors import DatabaseError, DatabaseUnavailable, Unsuitable
from sync.postgres.facts import Facts, load_facts
from sync.postgres.migrations import migrate
from sync.service import roles
from tests.support.hostile import alter, new_login, new_owner
from tests.support.pooler import needs_pgbouncer, pooled
from tests.support.postgres import database_of, in_database, sessions_left

from .conftest import PASSWORD

ALL, POOL = ["server", "privileges", "sessions", "database", "tables", "roles"], 5


def found(url: str, pool: int = POOL) -> dict[str, CheckLine]:
    """What is found, by its subject."""
    return {one.subject: one for one in check_database(url, pool)}


def wrong(findings: dict[str, CheckLine]) -> list[str]:
    """The subjects of what is wrong."""
    return [subject for subject, one in findings.items() if one.is_wrong]


@pytest.fixture
def owner_of_three(empty_database_url: str) -> Iterator[str]:
    """A migrated database for its owner, who may have three sessions."""
    with new_owner(empty_database_url, "CONNECTION LIMIT 3") as url:
        migrate(url)
        yield url


def test_all_is_well(database_url: str) -> None:
    findings = found(database_url)
    assert (list(findings), wrong(findings)) == (ALL, [])
    assert "encoding UTF8" in findings["server"].detail
    assert "6 needed (SYNC_DATABASE_POOL=5, and one that listens)" in findings["sessions"].detail
    assert "mews_writer is ready, members: " in findings["roles"].detail


@needs_pgbouncer
def test_all_is_well_behind_a_pooler(database_url: str) -> None:
    with pooled(database_url) as url:
        assert wrong(found(url)) == []


@needs_pgbouncer
def test_a_pooler_that_keeps_no_transactions(database_url: str) -> None:
    with pooled(database_url, more={"pool_mode": "statement"}) as url:
        with pytest.raises(Unsuitable, match=r"pooler of statements .* set its pool_mode to transaction or session"):
            found(url)


@needs_pgbouncer
@pytest.mark.parametrize("way", ["PGOPTIONS", "the URL"])
def test_a_pooler_that_refuses_settings_of_the_session(
    database_url: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with pooled(database_url) as pooler:
        if way == "PGOPTIONS":
            monkeypatch.setenv("PGOPTIONS", "-c datestyle=German")
        url = pooler if way == "PGOPTIONS" else make_conninfo(pooler, options="-c datestyle=German")
        with pytest.raises(Unsuitable, match=r"startup parameter: options.* unset PGOPTIONS and its like"):
            found(url)
    with pooled(database_url, more={"ignore_startup_parameters": "options"}) as url:
        assert wrong(found(url)) == []


@pytest.mark.long
def test_too_few_sessions_for_the_role(owner_of_three: str) -> None:
    sessions = found(owner_of_three)["sessions"]
    assert sessions.detail.endswith("; 3 free (the role's CONNECTION LIMIT 3)")
    assert "SYNC_DATABASE_POOL=2" in sessions.to_do
    assert not found(owner_of_three, pool=2)["sessions"].is_wrong


@pytest.mark.long
def test_sessions_of_the_daemon_are_not_missed_twice(owner_of_three: str) -> None:
    with ExitStack() as stack:
        connect = partial(psycopg.connect, owner_of_three, application_name="voucher-sync")
        daemon, _ = stack.enter_context(connect()), stack.enter_context(connect())
        sessions = found(owner_of_three, pool=2)["sessions"]
        assert sessions.detail.endswith("3 needed (SYNC_DATABASE_POOL=2, and one that listens), of which 2 are open; "
                                        "1 free (the role's CONNECTION LIMIT 3)")  # fmt: skip
        assert not sessions.is_wrong
        daemon.execute("SET application_name = 'somebody else'")
        assert found(owner_of_three, pool=2)["sessions"].is_wrong


def test_too_few_sessions_for_the_database(owner_of_three: str, empty_database_url: str) -> None:
    with psycopg.connect(in_database(empty_database_url, "postgres"), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {database_of(empty_database_url)} CONNECTION LIMIT 2".encode())
        sessions_left(admin, database_of(empty_database_url), but=1)  # what was closed counts until it has ended
    assert found(owner_of_three, pool=2)["sessions"].detail.endswith("; 1 free (the database's CONNECTION LIMIT 2)")


def test_who_may_make_no_schemas(empty_database_url: str) -> None:
    with new_login(empty_database_url) as url:
        findings = found(url)
    assert wrong(findings) == ["privileges", "database"]
    assert "may not make schemas" in findings["privileges"].detail
    assert "GRANT CREATE ON DATABASE" in findings["privileges"].to_do


def test_who_is_not_the_owner(database_url: str) -> None:
    with new_login(database_url, "IN ROLE mews_writer") as url:
        with pytest.raises(DatabaseError, match="permission denied for schema sync"):
            found(url)
    with new_login(database_url, "IN ROLE pg_read_all_data") as url:
        findings = found(url)
    assert "privileges" in wrong(findings)
    assert "does not own" in findings["privileges"].detail


@pytest.mark.long
@pytest.mark.parametrize("table", ["mews.voucher_code_outbox", "sync.windows"])
def test_policies_that_hold_for_the_owner_too(owner_of_three: str, table: str) -> None:
    with psycopg.connect(owner_of_three, autocommit=True) as owner:
        owner.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY".encode())
        assert not found(owner_of_three, pool=1)["privileges"].is_wrong
        owner.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY".encode())
    privileges = found(owner_of_three, pool=2)["privileges"]
    assert privileges.detail.endswith(f"which nothing is done with: {table}")
    assert "NO FORCE ROW LEVEL SECURITY" in privileges.to_do


DEFAULTS = """
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
"""


def test_who_may_read_tokens_by_what_the_owner_gives_by_default(empty_database_url: str) -> None:
    with new_owner(empty_database_url) as url:
        with psycopg.connect(url) as owner:
            owner.execute(DEFAULTS)
        migrate(url)
        privileges = found(url)["privileges"]
        assert privileges.detail == "tokens, and records as the API sent them, can be read by public"
        with psycopg.connect(url) as owner:
            owner.execute(privileges.to_do.partition(", then")[0].encode())
        assert not found(url)["privileges"].is_wrong


def test_who_reads_what_tells_no_token_is_left_alone(database_url: str) -> None:
    with new_login(database_url) as url, psycopg.connect(database_url, autocommit=True) as owner:
        login = psycopg.conninfo.conninfo_to_dict(url)["user"]
        owner.execute(f"GRANT USAGE ON SCHEMA sync TO {login}; GRANT SELECT ON sync.runs TO {login}".encode())
        assert wrong(found(database_url)) == []
        owner.execute(f"GRANT SELECT ON sync.rejected_records TO {login}".encode())
        assert f"can be read by {login}" in found(database_url)["privileges"].detail


def test_a_guard_that_is_not_in_force(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("ALTER TABLE mews.voucher_code_outbox DISABLE TRIGGER USER")
        tables = found(database_url)["tables"]
        assert tables.detail.startswith("not there, or not in force: check_insert of mews.voucher_code_outbox; ")
        assert tables.detail.endswith("; and 2 more")
        admin.execute("ALTER TABLE mews.voucher_code_outbox ENABLE TRIGGER USER")
        assert not found(database_url)["tables"].is_wrong


def test_a_table_that_takes_nothing(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("CREATE RULE instead AS ON UPDATE TO mews.voucher_codes DO INSTEAD NOTHING")
        tables = found(database_url)["tables"]
        assert tables.detail.startswith("refused whatever is written: INSERT of mews.voucher_codes: the database")
        assert "drop the rule" in tables.to_do


def test_a_table_that_a_crash_would_empty(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("ALTER TABLE mews.voucher_codes SET UNLOGGED")
        tables = found(database_url)["tables"]
        assert tables.detail == "a crash of the server would empty what is UNLOGGED: mews.voucher_codes"
        assert "SET LOGGED" in tables.to_do


def test_a_table_of_somebodys_whose_rows_count_as_ours(database_url: str) -> None:
    """What is queued there is sent, and cannot be noted as done: it stays uncertain."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("CREATE TABLE public.campaign (name text) INHERITS (mews.voucher_code_outbox)")
        tables = found(database_url)["tables"]
        assert tables.detail.endswith("holds for them: public.campaign (of mews.voucher_code_outbox)")
        assert tables.to_do == "ALTER TABLE ... NO INHERIT ..."
        admin.execute("ALTER TABLE public.campaign NO INHERIT mews.voucher_code_outbox")
        assert not found(database_url)["tables"].is_wrong


OWN = "ALTER TABLE {} ADD COLUMN tenant text NOT NULL"
FILLED_IN = """
CREATE FUNCTION public.fill_in() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.tenant := 'a'; RETURN NEW; END $$;
CREATE TRIGGER fill_in BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION public.fill_in()
"""


@pytest.mark.parametrize("table", ["mews.voucher_codes", "mews.voucher_code_outbox_attempts", "sync.runs"])
def test_a_column_of_somebodys_that_nobody_fills_in(database_url: str, table: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"SET search_path = mews, public; {OWN.format(table)}".encode())
        tables = found(make_conninfo(database_url, options="-c search_path=mews,sync"))["tables"]
        assert tables.detail == f"no INSERT of ours fills in what may not be null: tenant of {table}"
        assert "SET DEFAULT" in tables.to_do
        admin.execute(FILLED_IN.format(table).encode())
        assert not found(database_url)["tables"].is_wrong


def test_so_may_a_column_be_that_only_its_domain_forbids_to_be_null(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("CREATE DOMAIN public.named AS text NOT NULL; CREATE DOMAIN public.tenant AS public.named")
        admin.execute("ALTER TABLE mews.voucher_codes ADD COLUMN tenant public.tenant")
        detail = found(database_url)["tables"].detail
        assert detail == "no INSERT of ours fills in what may not be null: tenant of mews.voucher_codes"
        admin.execute("ALTER TABLE mews.voucher_codes DROP COLUMN tenant")
        admin.execute("CREATE DOMAIN public.filled_in AS public.named DEFAULT 'a'")
        admin.execute("ALTER TABLE mews.voucher_codes ADD COLUMN tenant public.filled_in NOT NULL")
        assert not found(database_url)["tables"].is_wrong


def test_such_a_column_of_the_outbox_is_for_those_who_queue(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(OWN.format("mews.voucher_code_outbox").encode())
    assert not found(database_url)["tables"].is_wrong


def test_a_way_to_listen_leads_to_the_same_database(
    database_url: str, empty_database_url: str, unreachable_url: str
) -> None:
    assert not check_listening(database_url, database_url).is_wrong
    assert "leads to another database" in check_listening(empty_database_url, database_url).detail
    gone = check_listening(unreachable_url, database_url)
    assert gone.detail.startswith("by SYNC_LISTEN_URL nobody answers: ")
    assert PASSWORD not in gone.detail
    with pytest.raises(DatabaseUnavailable):  # gone since it was looked at
        check_listening(database_url, unreachable_url)


def test_triggers_that_do_not_fire(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(alter("DATABASE", database_of(database_url), {"session_replication_role": "replica"}))
    privileges = found(database_url)["privileges"]
    assert "session_replication_role is replica" in privileges.detail
    assert "RESET session_replication_role" in privileges.to_do


def test_roles_that_are_missing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"test_{uuid4().hex}"
    monkeypatch.setattr(roles, "READER", name)
    findings = found(database_url)
    assert wrong(findings) == ["roles"]
    assert findings["roles"].detail.startswith(f"{name} is missing; mews_writer is ready")
    assert "voucher-sync roles" in findings["roles"].to_do


@pytest.mark.long
def test_indexes_from_before_the_operating_system_sorted_otherwise(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as admin:
        if admin.info.server_version < 170_000:
            pytest.skip("needs PostgreSQL 17, which has a collation with a version on every operating system")
        name = f"sorted_{uuid4().hex}"
        of_version = "TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
        admin.execute(f"CREATE DATABASE {name} {of_version}")
        try:
            url = in_database(database_url, name)
            migrate(url)
            assert wrong(found(url)) == []
            admin.execute("UPDATE pg_database SET datcollversion = '0' WHERE datname = %s", [name])
            assert wrong(found(url)) == ["server"]
            assert "REINDEX DATABASE" in found(url)["server"].to_do
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_server_that_is_newer_than_this_version_is_told_and_not_refused(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newer(connection: Connection) -> Facts:
        return replace(load_facts(connection), version="19.1", release=19)

    monkeypatch.setattr(module, "load_facts", newer)
    server = found(database_url)["server"]
    assert "PostgreSQL 19.1" in server.detail
    assert "newer than the 14 to 18 that this version was made for" in server.detail
    assert not server.is_wrong
