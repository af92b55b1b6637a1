"""Migrations and metadata say the same, replicas may migrate at once, and what belongs to others is left alone."""

import subprocess
import sys
from contextlib import ExitStack

import psycopg
import pytest
from alembic import command
from sqlalchemy import text

from sync.core.errors import DatabaseError, NotMigrated
from sync.postgres.migrations import make_migration_engine, migrate, revisions
from sync.schema import metadata
from tests.migrations.helpers import (
    CATALOG,
    CHECKOUT,
    CONSTRAINTS,
    INDEXES,
    MIGRATE,
    alembic,
    everything,
    execute,
    head,
    query,
    scripts,
)
from tests.support.postgres import new_database

PATIENCE_S = 60
REPLICAS = 4

IN_OUR_SCHEMAS = """
SELECT n.nspname || '.' || c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('mews', 'sync') AND c.relkind NOT IN ('i', 'I', 't')
UNION ALL SELECT nspname FROM pg_namespace WHERE nspname IN ('mews', 'sync')
UNION ALL SELECT typname FROM pg_type WHERE typnamespace::regnamespace::text = 'mews'
UNION ALL SELECT proname FROM pg_proc WHERE pronamespace::regnamespace::text IN ('mews', 'sync')
"""


def test_an_empty_database_is_brought_to_the_head_and_then_left_there(empty_database_url: str) -> None:
    assert revisions(empty_database_url) == (None, head())
    assert migrate(empty_database_url) == (None, head())
    before = everything(empty_database_url)
    assert migrate(empty_database_url) == (head(), head())
    assert revisions(empty_database_url) == (head(), head())
    assert everything(empty_database_url) == before


def test_asking_for_the_revision_writes_nothing(empty_database_url: str) -> None:
    revisions(empty_database_url)
    assert query(empty_database_url, IN_OUR_SCHEMAS) == []


def test_alembic_finds_no_difference_between_metadata_and_migrations(database_url: str) -> None:
    with alembic(database_url) as config:
        command.check(config)


def test_tables_made_from_the_metadata_are_the_migrated_ones(database_url: str, empty_database_url: str) -> None:
    with make_migration_engine(empty_database_url).begin() as connection:
        connection.execute(text("CREATE SCHEMA mews"))
        connection.execute(text("CREATE SCHEMA sync"))
        metadata.create_all(connection)
    for statement in (f"{CATALOG} AND c.relkind = 'r'", CONSTRAINTS, INDEXES):
        made, migrated = set(query(empty_database_url, statement)), set(query(database_url, statement))
        assert made - migrated == migrated - made == set()


def test_down_to_nothing_and_up_again_is_as_new(database_url: str) -> None:
    before = everything(database_url)
    with alembic(database_url) as config:
        command.downgrade(config, "base")
    assert {name for (name,) in query(database_url, IN_OUR_SCHEMAS)} == {"sync", "sync.alembic_version"}
    assert revisions(database_url) == (None, head())
    assert migrate(database_url) == (None, head())
    assert everything(database_url) == before


@pytest.mark.long
def test_every_step_up_can_be_taken_back(empty_database_url: str) -> None:
    steps = [script.revision for script in reversed(list(scripts().walk_revisions()))]
    with alembic(empty_database_url) as config:
        before = everything(empty_database_url)
        for step in steps:
            command.upgrade(config, step)
            after = everything(empty_database_url)
            command.downgrade(config, "-1")
            assert everything(empty_database_url) == before
            command.upgrade(config, step)
            assert everything(empty_database_url) == after
            before = after
    assert revisions(empty_database_url) == (head(), head())


@pytest.mark.long
def test_replicas_that_migrate_at_once_all_succeed(empty_database_url: str) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    run = [sys.executable, "-c", MIGRATE, empty_database_url]
    with ExitStack() as stack:
        with psycopg.connect(empty_database_url) as other:
            other.execute("CREATE SCHEMA sync")  # everybody waits to see whether this is committed
            replicas = [
                stack.enter_context(subprocess.Popen(run, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True))
                for _ in range(REPLICAS)
            ]
            while query(empty_database_url, waiting) != [(REPLICAS,)]:
                assert all(replica.poll() is None for replica in replicas)
            other.rollback()
        printed = [replica.communicate(timeout=PATIENCE_S)[0] for replica in replicas]
    assert [replica.returncode for replica in replicas] == [0] * REPLICAS
    assert f"None {head()}\n" in printed
    # Who came later may have looked again, and have found it done, or as far as a step that stands by itself.
    assert all(line.endswith(f" {head()}\n") for line in printed)
    assert revisions(empty_database_url) == (head(), head())


def test_a_migration_that_fails_leaves_nothing(empty_database_url: str) -> None:
    execute(empty_database_url, "CREATE SCHEMA mews", "CREATE TABLE mews.vouchers (mine int)")
    before = query(empty_database_url, IN_OUR_SCHEMAS)
    with pytest.raises(DatabaseError, match="mews"):
        migrate(empty_database_url)
    assert query(empty_database_url, IN_OUR_SCHEMAS) == before


def test_a_database_of_a_newer_version_is_an_error_of_our_own(database_url: str) -> None:
    execute(database_url, "UPDATE sync.alembic_version SET version_num = 'from-the-future'")
    with pytest.raises(NotMigrated, match="a newer voucher-sync"):
        migrate(database_url)


@pytest.mark.long
def test_what_belongs_to_others_is_left_alone(empty_database_url: str) -> None:
    others = """
        SELECT n.nspname, c.relname, c.relfilenode FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('public', 'bi') ORDER BY 1, 2
    """
    execute(
        empty_database_url,
        "CREATE SCHEMA bi",
        "CREATE TABLE bi.voucher_codes (id serial PRIMARY KEY, value varchar(7) DEFAULT 'x' CHECK (value <> ''))",
        "CREATE INDEX ON bi.voucher_codes (value)",
        "CREATE VIEW bi.coverage AS SELECT count(*) FROM bi.voucher_codes",
        "CREATE TABLE public.vouchers (id int)",
        "CREATE TABLE public.alembic_version (version_num text PRIMARY KEY)",
        "INSERT INTO public.alembic_version VALUES ('theirs')",
    )
    before = query(empty_database_url, others)
    assert migrate(empty_database_url) == (None, head())
    with alembic(empty_database_url) as config:
        command.check(config)
        command.downgrade(config, "base")
    assert query(empty_database_url, others) == before
    assert query(empty_database_url, "SELECT * FROM public.alembic_version") == [("theirs",)]


@pytest.mark.parametrize("schema", ["mews", "sync"])
def test_every_table_view_and_column_has_a_comment(database_url: str, schema: str) -> None:
    found = query(database_url, f"{CATALOG} AND n.nspname = '{schema}'")
    assert len(found) > 20
    assert [f"{row[0]}.{row[2]}" for row in found if not row[7]] == []
    assert [row[0] for row in found if not row[8]] == []
    assert all(comment for (comment,) in query(database_url, f"SELECT obj_description('{schema}'::regnamespace)"))


TIMESTAMP = "timestamp with time zone"
CONTRACT = {
    "mews.voucher_codes": [
        ("id", "uuid", True),
        ("voucher_id", "uuid", True),
        ("value", "text", False),
        ("validity_start_utc", TIMESTAMP, False),
        ("validity_end_utc", TIMESTAMP, False),
        ("created_utc", TIMESTAMP, False),
        ("updated_utc", TIMESTAMP, False),
        ("is_active", "boolean", True),
        ("connection", "text", True),
        ("first_seen_at", TIMESTAMP, True),
        ("mirrored_at", TIMESTAMP, True),
        ("missing_since", TIMESTAMP, False),
        ("delete_noted_at", TIMESTAMP, False),
    ],
    "mews.voucher_assignments": [("voucher_id", "uuid", True), ("rate_id", "uuid", True)],
}


@pytest.mark.parametrize("table", CONTRACT)
def test_the_columns_of_the_contract_stand_in_their_order(database_url: str, table: str) -> None:
    columns = f"{CATALOG} AND n.nspname || '.' || c.relname = '{table}' ORDER BY a.attnum"
    assert [(name, kind, not_null) for _, _, name, kind, not_null, *_ in query(database_url, columns)] == CONTRACT[
        table
    ]


@pytest.mark.parametrize("relation", ["vouchers", "services", "enterprises", "active_voucher_codes", "coverage"])
def test_the_other_relations_of_the_contract_can_be_queried(database_url: str, relation: str) -> None:
    assert query(database_url, f"SELECT * FROM mews.{relation}") == []


def test_two_databases_of_one_server_are_migrated_apart(server_url: str, empty_database_url: str) -> None:
    with new_database(server_url) as other:
        assert migrate(other) == (None, head())
    assert revisions(empty_database_url) == (None, head())
