"""What an owner has dropped, disabled or added on our tables is seen before it is missed."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from sync.core.errors import DatabaseUnavailable
from sync.postgres.engine import translate
from sync.postgres.in_force import not_in_force, refusals
from sync.postgres.migrations import make_migration_engine, migrate
from sync.schema import metadata, triggers
from tests.support.hostile import new_owner

TABLES = metadata.sorted_tables
OUTBOX = "mews.voucher_code_outbox"
NO = "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'SECRET'; END $$; "
PUBLISHED = "CREATE PUBLICATION users FOR TABLE mews.voucher_codes"


@pytest.fixture
def owners_url(empty_database_url: str) -> Iterator[str]:
    """A migrated database for its owner, who is no superuser."""
    with new_owner(empty_database_url) as url:
        migrate(url)
        yield url


@pytest.fixture
def connection(owners_url: str) -> Iterator[Connection]:
    """A transaction in that database."""
    with make_migration_engine(owners_url).connect() as connection:
        yield connection


def execute(url: str, statements: str) -> None:
    """Runs statements as this user."""
    with psycopg.connect(url, autocommit=True) as user:
        user.execute(statements.encode())


def gone(connection: Connection) -> list[str]:
    """What is not in force any more."""
    return not_in_force(connection, TABLES, triggers())


@pytest.mark.long
def test_a_migrated_database_is_as_it_was_made_and_takes_what_is_written(connection: Connection) -> None:
    assert (gone(connection), refusals(connection, TABLES)) == ([], [])


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("DROP INDEX mews.voucher_code_outbox_due_idx", f"voucher_code_outbox_due_idx of {OUTBOX}"),
        ("ALTER TABLE sync.windows DROP CONSTRAINT windows_half_open_check", "windows_half_open_check of sync.windows"),
        ("ALTER INDEX mews.voucher_codes_value_idx RENAME TO mine", "voucher_codes_value_idx of mews.voucher_codes"),
        (f"ALTER TABLE {OUTBOX} DISABLE TRIGGER wake", f"wake of {OUTBOX}"),
        (f"ALTER TABLE {OUTBOX} ENABLE REPLICA TRIGGER check_insert", f"check_insert of {OUTBOX}"),
        (f"DROP TRIGGER check_update ON {OUTBOX}", f"check_update of {OUTBOX}"),
        ("DROP TRIGGER keep_versions ON mews.voucher_codes", "keep_versions of mews.voucher_codes"),
    ],
)  # fmt: skip
def test_what_guards_a_table_no_more_is_named(
    connection: Connection, owners_url: str, statement: str, found: str
) -> None:
    execute(owners_url, statement)
    assert gone(connection) == [found]


SAME_ADD = "voucher_code_outbox_same_add_queued_idx"


@pytest.mark.sampled
@pytest.mark.parametrize(
    "otherwise", ['INDEX {} ON {} (voucher_id, value COLLATE "C")', "UNIQUE INDEX {} ON {} (voucher_id, value)"]
)
def test_an_index_that_somebody_has_built_anew_and_that_guards_less_is_named(
    connection: Connection, owners_url: str, otherwise: str
) -> None:
    made_anew = otherwise.format(SAME_ADD, OUTBOX) + " WHERE operation = 'add'"
    execute(owners_url, f"DROP INDEX mews.{SAME_ADD}; CREATE {made_anew}")
    assert gone(connection) == [f"{SAME_ADD} of {OUTBOX}"]


def test_an_index_that_a_build_has_left_invalid_is_named(connection: Connection, empty_database_url: str) -> None:
    execute(
        empty_database_url,
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mews.voucher_code_outbox_queued_by_key'::regclass",
    )
    assert gone(connection) == [f"voucher_code_outbox_queued_by_key of {OUTBOX}"]


REFUSED = {
    "no replica identity": (
        f"{PUBLISHED}; ALTER TABLE mews.voucher_codes REPLICA IDENTITY NOTHING",
        "UPDATE of mews.voucher_codes: the database refused a statement (55000): cannot update table "
        '"voucher_codes" because it does not have a replica identity and publishes updates',
    ),
    "a publication of some columns": (
        f"{PUBLISHED} (value)",
        "UPDATE of mews.voucher_codes: the database refused a statement (42P10): cannot update table "
        '"voucher_codes": Column list used by the publication does not cover the replica identity.',
    ),
    "a publication of some rows": (
        f"{PUBLISHED} WHERE (is_active)",
        "UPDATE of mews.voucher_codes: the database refused a statement (42P10): cannot update table "
        '"voucher_codes": Column used in the publication WHERE expression is not part of the replica identity.',
    ),
    "a rule": (
        f"CREATE RULE instead AS ON UPDATE TO {OUTBOX} DO INSTEAD NOTHING",
        f"INSERT of {OUTBOX}: the database refused a statement (0A000): INSERT with ON CONFLICT clause cannot be used "
        "with table that has INSERT or UPDATE rules",
    ),
    "a trigger for each statement": (
        f"{NO} CREATE TRIGGER no BEFORE DELETE ON sync.runs FOR EACH STATEMENT EXECUTE FUNCTION public.no()",
        "DELETE of sync.runs: the database refused a statement (P0001): RaiseException in function no",
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize(("statements", "first"), REFUSED.values(), ids=REFUSED.keys())
def test_what_refuses_whatever_is_written_is_named(
    connection: Connection, empty_database_url: str, statements: str, first: str
) -> None:
    execute(empty_database_url, statements)
    found = refusals(connection, TABLES)
    assert found[0] == first
    assert "SECRET" not in "".join(found)


def test_a_privilege_that_the_owner_took_from_himself_is_named(connection: Connection, owners_url: str) -> None:
    execute(owners_url, f"REVOKE UPDATE ON {OUTBOX} FROM CURRENT_USER")
    assert [one.partition(":")[0] for one in refusals(connection, TABLES)] == [f"UPDATE of {OUTBOX}"]


def test_nothing_that_a_users_trigger_does_meanwhile_stays(connection: Connection, owners_url: str) -> None:
    execute(
        owners_url,
        "CREATE SCHEMA own; CREATE TABLE own.seen (n int); "
        "CREATE FUNCTION own.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO own.seen VALUES (1); "
        "RETURN NULL; END $$; "
        f"CREATE TRIGGER see AFTER UPDATE ON {OUTBOX} FOR EACH STATEMENT EXECUTE FUNCTION own.see()",
    )
    assert refusals(connection, TABLES) == []
    connection.commit()
    with psycopg.connect(owners_url) as user:
        assert user.execute("SELECT count(*) FROM own.seen").fetchone() == (0,)


def test_a_database_that_is_away_is_no_refusal_of_a_table(connection: Connection, empty_database_url: str) -> None:
    execute(
        empty_database_url,
        "CREATE FUNCTION public.away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$; "
        "CREATE TRIGGER away AFTER UPDATE ON sync.runs FOR EACH STATEMENT EXECUTE FUNCTION public.away()",
    )
    with pytest.raises(DBAPIError) as caught:
        refusals(connection, TABLES)
    assert isinstance(translate(caught.value), DatabaseUnavailable)
