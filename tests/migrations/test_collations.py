"""What keeps changes from being doubled does not depend on how the operating system sorts, and stops nobody."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

import sync.outbox
from tests.migrations.helpers import MIGRATE, execute, head, query, upgrade
from tests.support.postgres import in_database
from tests.support.queue import VOUCHER

BEFORE = "0013"
TABLE = "mews.voucher_code_outbox"
INSERT = (
    f"INSERT INTO {TABLE} (operation, voucher_id, value, idempotency_key) VALUES ('add', '{VOUCHER}', '{{0}}', '{{0}}')"
)
UNIQUE_TEXTS = """
SELECT DISTINCT i.indexrelid::regclass::text FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
CROSS JOIN unnest(i.indcollation::oid[]) AS used(collation_id)
JOIN pg_collation ON pg_collation.oid = used.collation_id
WHERE i.indisunique AND c.relnamespace::regnamespace::text IN ('mews', 'sync') AND collname NOT IN ('C', 'POSIX')
"""
NAMES_OF_OURS = {
    "sync.alembic_version_pkc",
    "sync.alerts_pkey",
    "sync.audit_candidates_pkey",
    "sync.audit_seen_pkey",
    "sync.audits_open_idx",
    "sync.connections_pkey",
    "sync.outages_open_idx",
    "sync.rejected_records_pkey",
    "sync.request_failures_pkey",
    "sync.samples_pkey",
    "sync.skipped_pkey",
}
"""Their texts are names that the daemon gives, as `default`, or the API's ids: no guard against doubles looks there.
Views may use the columns, whose collation a primary key has."""
BUILD_WAITS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND query LIKE 'CREATE UNIQUE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'
"""
LETTERS = ("a", "A", "ä", "Ä", "b", "B", "z", "Z", "ß", "ss", "é", "ø", "-", "_", "1")
VALUES = [first + second + third for first in LETTERS for second in LETTERS for third in LETTERS[:4]]


@pytest.fixture
def before_url(empty_database_url: str) -> str:
    """A database of the release before, with changes in it and a user's view on them."""
    upgrade(empty_database_url, BEFORE)
    view = f"CREATE VIEW public.mine AS SELECT value, idempotency_key, queued_by FROM {TABLE}"
    execute(empty_database_url, view, *(INSERT.format(value) for value in VALUES[:50]))
    return empty_database_url


def test_every_unique_index_of_texts_that_users_give_compares_byte_by_byte(database_url: str) -> None:
    assert {name for (name,) in query(database_url, UNIQUE_TEXTS)} == NAMES_OF_OURS


@pytest.mark.long
def test_changes_and_views_of_users_stay_and_so_do_the_guards(before_url: str) -> None:
    upgrade(before_url, "head")

    assert query(before_url, "SELECT count(*) FROM public.mine") == [(50,)]
    execute(before_url, INSERT.format(VALUES[0]))  # the same key again
    other_key = INSERT.format(VALUES[0]).replace(f"'{VALUES[0]}')", "'another')")
    with pytest.raises(psycopg.errors.UniqueViolation, match="same_add_queued_idx"):
        execute(before_url, other_key)
    assert query(before_url, "SELECT count(*) FROM public.mine") == [(50,)]


def test_a_key_is_looked_up_by_its_index(database_url: str) -> None:
    looked_up = (
        'WHERE same_key.queued_by COLLATE "C" = session_user\n        AND same_key.idempotency_key COLLATE "C" = '
    )
    assert looked_up in Path(sync.outbox.__file__).with_name("triggers.sql").read_text(encoding="ascii")

    plan = query(database_url, f"EXPLAIN SELECT id FROM {TABLE} AS same_key {looked_up} 'key'")

    (condition,) = [str(line) for (line,) in plan if "Index Cond" in str(line)]
    assert "queued_by" in condition
    assert "idempotency_key" in condition


def a_build_that_waits(url: str) -> tuple["subprocess.Popen[bytes]", int]:
    """A migration in a process, and the session in which it builds an index and waits for an older transaction."""
    process = subprocess.Popen([sys.executable, "-c", MIGRATE, url])
    while True:
        assert process.poll() is None
        if found := query(url, BUILD_WAITS):
            return process, int(str(found[0][0]))


@pytest.fixture
def older(before_url: str) -> Iterator[psycopg.Connection]:
    """A transaction that has written to the table, and is open."""
    with psycopg.connect(before_url) as session:
        session.execute(INSERT.format("older").encode())
        yield session


@pytest.mark.long
def test_who_writes_meanwhile_is_not_kept_waiting(before_url: str, older: psycopg.Connection) -> None:
    process, _ = a_build_that_waits(before_url)

    execute(before_url, "SET lock_timeout = '1s'", INSERT.format("meanwhile"), f"UPDATE {TABLE} SET note = 'x'")

    older.commit()
    assert process.wait() == 0
    assert query(before_url, "SELECT version_num FROM sync.alembic_version") == [(head(),)]
    assert query(before_url, "SELECT count(*) FROM public.mine") == [(52,)]


@pytest.mark.long
def test_a_build_that_was_killed_is_made_anew(before_url: str, older: psycopg.Connection) -> None:
    process, session = a_build_that_waits(before_url)
    process.kill()
    process.wait()
    execute(before_url, f"SELECT pg_terminate_backend({session}, 30000)")
    older.rollback()
    left = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
    assert query(before_url, left) == [(1,)]
    assert query(before_url, "SELECT version_num FROM sync.alembic_version") == [(BEFORE,)]

    upgrade(before_url, "head")

    assert query(before_url, left) == [(0,)]
    assert {name for (name,) in query(before_url, UNIQUE_TEXTS)} == NAMES_OF_OURS


@pytest.fixture
def german_url(server_url: str) -> Iterator[str]:
    """A database that sorts by ICU, as German is sorted."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        if admin.info.server_version < 150_000:
            pytest.skip("no database sorts by ICU before PostgreSQL 15")
        try:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'de' "
                        "LC_COLLATE 'C' LC_CTYPE 'C'").format(sql.Identifier(name))
            )  # fmt: skip
        except psycopg.errors.FeatureNotSupported:
            pytest.skip("this server was built without ICU")
        yield in_database(server_url, name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.mark.parametrize(("revision", "is_safe"), [(BEFORE, False), ("head", True)])
def test_nothing_is_queued_twice_after_the_operating_system_sorts_differently(
    german_url: str, revision: str, is_safe: bool
) -> None:
    upgrade(german_url, revision)
    statement = (
        f"INSERT INTO {TABLE} (operation, voucher_id, value) VALUES ('add', '{VOUCHER}', %s) ON CONFLICT DO NOTHING"
    )
    with psycopg.connect(german_url, autocommit=True) as session:
        session.cursor().executemany(statement.encode(), [(value,) for value in VALUES])
        of_17 = "datlocale" if session.info.server_version >= 170_000 else "daticulocale"
        # What an upgrade of the library does: the files stay, and what they are sorted by becomes another.
        session.execute(
            f"UPDATE pg_database SET {of_17} = 'sv-u-kf-upper-ka-shifted' WHERE datname = current_database()".encode()
        )
    with psycopg.connect(german_url, autocommit=True) as session:
        session.cursor().executemany(statement.encode(), [(value,) for value in VALUES])

    ((doubles,),) = query(german_url, f"SELECT count(*) - {len(VALUES)} FROM {TABLE}")
    assert (doubles == 0) == is_safe
