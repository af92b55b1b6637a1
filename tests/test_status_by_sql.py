"""Every statement of docs/how-to/status-by-sql.md runs, and finds what is there."""

import re

import psycopg
import pytest

from tests.support.documents import ROOT
from tests.web.page_states import LATELY, RUNS

PAGE = (ROOT / "docs/how-to/status-by-sql.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n\n```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
THERE = f"""
INSERT INTO sync.connections (name, state) VALUES ('default', 'ok');
INSERT INTO sync.daemons (process, host, pid, version, revision, settings)
VALUES (gen_random_uuid(), 'a', 1, '1', '1', '{{}}');
WITH plan AS (INSERT INTO sync.plans (connection, voucher_ids, end_utc, page_size)
  VALUES ('default', '{{}}', now(), 1000) RETURNING id)
INSERT INTO sync.windows SELECT id, now() - interval '1 day', now() FROM plan;
INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id) VALUES ('delete', gen_random_uuid());
{RUNS};{LATELY}
"""


def test_every_section_has_its_statement() -> None:
    assert len(SECTIONS) == PAGE.count("\n## ") == 8


@pytest.mark.parametrize("title", SECTIONS)
def test_a_statement_finds_what_is_there(database_url: str, title: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(THERE.encode())
        assert connection.execute(SECTIONS[title].encode()).fetchall() != []
