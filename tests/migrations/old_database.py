"""A database of the oldest revision with something to lose, in every state, and what must become of it."""

import subprocess
from pathlib import Path

import psycopg

from sync.postgres.embedded.programs import psql_path
from tests.migrations.helpers import execute, query, upgrade
from tests.support.queue import VOUCHER

OLDEST = "0002"
"""The first one with an outbox."""
ROWS = f"""
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, idempotency_key, status, attempts, connection,
  attempt_id, first_sent_utc, sent_at, finished_at, voucher_code_id, next_attempt_at)
SELECT CASE WHEN number % 3 = 0 THEN 'delete' ELSE 'add' END, '{VOUCHER}', format('%s-%s', status, number),
  format('order %s %s', status, number), status, CASE WHEN is_sent THEN 1 ELSE 0 END, 'default',
  CASE WHEN is_sent THEN gen_random_uuid() END, CASE WHEN is_sent THEN now() END, CASE WHEN is_sent THEN now() END,
  CASE WHEN is_finished THEN now() END, CASE WHEN status = 'done' THEN gen_random_uuid() END, now()
FROM (VALUES ('pending', false, false), ('sending', true, false), ('uncertain', true, false), ('held', false, false),
  ('done', true, true), ('failed', true, true), ('cancelled', false, true)) AS kind(status, is_sent, is_finished)
CROSS JOIN generate_series(1, 6) AS number;
INSERT INTO mews.voucher_code_outbox_attempts (outbox_id, attempt_id, sent_at, outcome)
SELECT id, attempt_id, sent_at, 'done' FROM mews.voucher_code_outbox WHERE status = 'done';
INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection)
SELECT voucher_code_id, voucher_id, value, operation = 'add', connection FROM mews.voucher_code_outbox
WHERE status = 'done';
"""
KEPT = (
    "SELECT id, operation, voucher_id, value, idempotency_key, status, attempts, voucher_code_id, queued_by, "
    "(SELECT count(*) FROM mews.voucher_code_outbox_attempts AS tried WHERE tried.outbox_id = row.id) "
    "FROM mews.voucher_code_outbox AS row ORDER BY id",
    "SELECT id, voucher_id, value, is_active, connection FROM mews.voucher_codes ORDER BY id",
)
QUEUE = f"INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', '{VOUCHER}', 'BESIDE')"
AS_THE_OLD_DAEMON = (
    "SELECT set_config('voucher_sync.daemon', 'on', true)",
    "UPDATE mews.voucher_code_outbox SET status = 'sending', attempt_id = gen_random_uuid(), connection = 'default', "
    "attempts = attempts + 1, sent_at = now(), first_sent_utc = now() WHERE value = 'BESIDE'",
    "UPDATE mews.voucher_code_outbox SET status = 'done', voucher_code_id = gen_random_uuid(), finished_at = now() "
    "WHERE value = 'BESIDE'",
    "UPDATE mews.voucher_code_outbox SET status = 'done', voucher_code_id = gen_random_uuid(), finished_at = now() "
    "WHERE status = 'sending'",
)


def make_old(url: str) -> None:
    """Brings an empty database to that revision, with its rows."""
    upgrade(url, OLDEST)
    # No trigger sees them: they are as the daemon of that time has left them.
    execute(url, "SET session_replication_role = replica; " + ROWS)


def kept(url: str) -> list[tuple[object, ...]]:
    """What no migration may change."""
    return [row for statement in KEPT for row in query(url, statement)]


def schema_of(url: str) -> str:
    """The whole schema, as `pg_dump` tells it."""
    program: Path = psql_path().with_name("pg_dump")
    told = subprocess.run([program, "--schema-only", url], check=True, capture_output=True, text=True).stdout
    # Newer ones put a number into it that is another one each time.
    return "\n".join(line for line in told.splitlines() if not line.startswith((r"\restrict", r"\unrestrict")))


def work_as_before(url: str) -> None:
    """What an application and the daemon of that revision say; they are let do it, and then it is undone."""
    with psycopg.connect(url) as session:
        for statement in (QUEUE, *AS_THE_OLD_DAEMON):
            assert session.execute(statement.encode()).rowcount > 0
        session.rollback()
