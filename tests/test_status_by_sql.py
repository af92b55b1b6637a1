"""Every statement of docs/how-to/status-by-sql.md runs, and finds what is there."""

import re

import psycopg
import pytest

from tests.support.documents import ROOT
from tests.web.page_states import LATELY, RUNS

PAGE = (ROOT / "docs/how-to/status-by-sql.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n\n```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
THERE = f"""
INSERT INTO sync.daemons (process, host, pid, version, revision, settings)
VALUES (gen_random_uuid(), 'a', 1, '1', '1', '{{}}');
INSERT INTO sync.connections (name, state, owner) SELECT 'default', 'ok', process FROM sync.daemons;
INSERT INTO sync.connections (name, state, error, caught_up_as_of)
SELECT 'slow-' || n, 'failing', 'no', now() - n * interval '1 hour' FROM generate_series(1, 12) AS n;
INSERT INTO sync.connections (name, state, paused_at, paused_because) VALUES ('shut', 'failing', now(), 'closed');
INSERT INTO sync.connections (name, state, removed_at) VALUES ('gone', 'failing', now());
WITH plan AS (INSERT INTO sync.plans (connection, voucher_ids, end_utc, page_size)
  VALUES ('default', '{{}}', now(), 1000) RETURNING id)
INSERT INTO sync.windows SELECT id, now() - interval '1 day', now() FROM plan;
INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id) VALUES ('delete', gen_random_uuid());
INSERT INTO mews.enterprises (id, name, connection) VALUES (gen_random_uuid(), 'Prague', 'default');
INSERT INTO mews.services (id, enterprise_id, name, is_active, connection)
SELECT gen_random_uuid(), id, 'Stay', true, 'default' FROM mews.enterprises;
INSERT INTO mews.vouchers (id, service_id, enterprise_id, name, is_active, connection)
SELECT gen_random_uuid(), id, enterprise_id, 'Summer offer', true, 'default' FROM mews.services;
INSERT INTO sync.skipped (connection, kind, id, reason) VALUES ('default', 'voucher', gen_random_uuid(), 'no');
INSERT INTO sync.skipped (connection, kind, id, reason, until)
VALUES ('default', 'voucher', gen_random_uuid(), 'read again', now());
INSERT INTO sync.rejected_records (connection, digest, kind, raw, reason)
VALUES ('default', 'x', 'VoucherCodes', '{{}}', 'no');
INSERT INTO sync.budgets VALUES ('x');
INSERT INTO sync.reservations (token_fingerprint, process, beat, reserved, ages_ms, is_waiting, counts_for_ms)
VALUES ('x', gen_random_uuid(), 1, 3, '{{100, 200}}', false, 1000);
{RUNS};{LATELY}
"""


def test_every_section_has_its_statement() -> None:
    assert len(SECTIONS) == PAGE.count("\n## ") == 16


@pytest.mark.parametrize("title", SECTIONS)
def test_a_statement_finds_what_is_there(database_url: str, title: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(THERE.encode())
        assert connection.execute(SECTIONS[title].encode()).fetchall() != []


@pytest.mark.parametrize(
    ("title", "first", "count"),
    [
        ("Is it working; since when not, and why", ("shut", "paused"), 14),
        ("Who works for which connection", ("default", "a"), 13),
        ("The ten that are furthest behind", ("default", None), 10),
        ("What is paused", ("shut",), 1),
    ],
)
def test_what_was_removed_is_none_of_them(database_url: str, title: str, first: tuple[object], count: int) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(THERE.encode())
        rows = connection.execute(SECTIONS[title].encode()).fetchall()
    assert len(rows) == count
    assert "gone" not in {row[0] for row in rows}
    assert first in {row[: len(first)] for row in rows}


def test_what_is_read_again_is_not_left_out(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(THERE.encode())
        rows = connection.execute(SECTIONS["Which services and vouchers are left out"].encode()).fetchall()
    assert [row[3] for row in rows] == ["no"]
