"""Why a row is held stands in the row, whichever release has held it, and nobody is kept waiting by the migration."""

import subprocess
import sys

import psycopg
import pytest

from sync.outbox import gap
from sync.postgres.migrations import migrate
from tests.migrations.helpers import MIGRATE, execute, head, query, upgrade
from tests.support.queue import VOUCHER

BEFORE = "0019"
TABLE = "mews.voucher_code_outbox"
GUARD = "held: 120 deletes within 600 s are more than 20% of the 130 active codes of this connection"
LOCK = 17
AS_DAEMON = "SET voucher_sync.daemon = 'on'"
ROWS = f"SELECT value, status, held_because, took_back_id IS NOT NULL FROM {TABLE} ORDER BY id"
REVISION = "SELECT version_num FROM sync.alembic_version"
IS_VALID = "SELECT bool_and(convalidated) FROM pg_constraint WHERE conrelid = 'mews.voucher_code_outbox'::regclass"


def queued(operation: str, value: str) -> str:
    return f"INSERT INTO {TABLE} (operation, voucher_id, value) VALUES ('{operation}', '{VOUCHER}', '{value}')"


def held(value: str, words: str) -> str:
    """As the release before holds a row."""
    return f"UPDATE {TABLE} SET status = 'held', last_error = '{words}' WHERE value = '{value}'"


@pytest.fixture
def before_url(empty_database_url: str) -> str:
    """A database of the release before, with rows of every sort that the words tell."""
    upgrade(empty_database_url, BEFORE)
    execute(
        empty_database_url,
        *(queued("add", value) for value in ("GAP", "PENDING", "BACK")),
        queued("delete", "GUARD"),
        queued("delete", "BACK"),
        AS_DAEMON,
        held("GAP", gap.REASON),
        held("GUARD", GUARD),
    )
    return empty_database_url


ONCE_MIGRATED = [
    ("GAP", "held", "before_a_gap", False),
    ("PENDING", "pending", None, False),
    ("BACK", "cancelled", None, False),
    ("GUARD", "held", "too_many_deletes", False),
    ("BACK", "cancelled", None, True),
]


@pytest.mark.long
def test_what_the_words_told_stands_in_columns(before_url: str) -> None:
    migrate(before_url)
    assert query(before_url, ROWS) == ONCE_MIGRATED
    assert query(before_url, IS_VALID) == [(True,)]


@pytest.mark.long
def test_the_release_before_goes_on_holding_and_releasing(before_url: str) -> None:
    migrate(before_url)
    for words, because in ((gap.REASON, "before_a_gap"), (GUARD, "too_many_deletes")):
        execute(before_url, AS_DAEMON, held("PENDING", words))
        assert query(before_url, f"SELECT held_because FROM {TABLE} WHERE value = 'PENDING'") == [(because,)]
        execute(before_url, AS_DAEMON, f"UPDATE {TABLE} SET status = 'pending' WHERE value = 'PENDING'")
        assert query(before_url, f"SELECT held_because FROM {TABLE} WHERE value = 'PENDING'") == [(None,)]


@pytest.mark.long
def test_what_the_trigger_was_switched_to_stays_so(before_url: str) -> None:
    execute(before_url, f"ALTER TABLE {TABLE} ENABLE ALWAYS TRIGGER fill_in_state")
    migrate(before_url)
    assert query(before_url, "SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'fill_in_state'") == [("A",)]


WAITS_FOR_US = f"""
CREATE FUNCTION public.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_advisory_xact_lock({LOCK});
  RETURN NEW;
END $$;
CREATE TRIGGER mine BEFORE UPDATE ON {TABLE} FOR EACH ROW WHEN (OLD.value = 'GAP') EXECUTE FUNCTION public.wait()
"""
WAITING = f"""
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%UPDATE ONLY {TABLE}%'
AND wait_event_type = 'Lock'
"""


@pytest.mark.long
def test_nobody_waits_while_rows_are_written_and_whoever_is_killed_there_is_followed(before_url: str) -> None:
    execute(before_url, WAITS_FOR_US)
    with psycopg.connect(before_url, autocommit=True) as holder:
        holder.execute(f"SELECT pg_advisory_lock({LOCK})".encode())
        process = subprocess.Popen([sys.executable, "-c", MIGRATE, before_url])
        while not (found := query(before_url, WAITING)):
            assert process.poll() is None
        execute(before_url, "SET lock_timeout = '1s'", queued("add", "MEANWHILE"))
        execute(before_url, "SET lock_timeout = '1s'", f"UPDATE {TABLE} SET note = 'x' WHERE value = 'PENDING'")
        process.kill()
        process.wait()
        execute(before_url, f"SELECT pg_terminate_backend({found[0][0]}, 30000)")
    assert query(before_url, REVISION) == [(BEFORE,)]
    migrate(before_url)
    assert query(before_url, REVISION) == [(head(),)]
    assert query(before_url, ROWS) == [*ONCE_MIGRATED, ("MEANWHILE", "pending", None, False)]
    assert query(before_url, IS_VALID) == [(True,)]
