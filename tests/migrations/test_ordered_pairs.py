"""A table in use gets `after_id` and what guards it, whoever dies meanwhile, and its rows stay as they were."""

import pytest

from tests.migrations.helpers import execute, head, query, scripts, upgrade
from tests.support.queue import VOUCHER

AT = "0019"
BEFORE = str(scripts().get_revision(AT).down_revision)
TABLE = "mews.voucher_code_outbox"
INSERT = f"INSERT INTO {TABLE} (operation, voucher_id, value) VALUES ('add', '{VOUCHER}', 'SUMMER')"
BUILT = (
    "SELECT count(*), bool_and(indisvalid) FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid "
    "WHERE c.relname IN ('voucher_code_outbox_after_id_idx', 'voucher_code_outbox_waiting_idx')"
)
CHECKED = "SELECT convalidated FROM pg_constraint WHERE conname = 'voucher_code_outbox_after_an_earlier_row_check'"


@pytest.fixture
def before_url(empty_database_url: str) -> str:
    """A database of the release before, with a change in it."""
    upgrade(empty_database_url, BEFORE)
    execute(empty_database_url, INSERT)
    return empty_database_url


@pytest.mark.long
def test_a_table_with_rows_is_brought_to_it_and_again_after_a_run_that_was_killed(before_url: str) -> None:
    before = query(before_url, f"SELECT row.* FROM {TABLE} AS row")
    upgrade(before_url, AT)
    # As who was killed behind the first index has left it.
    execute(
        before_url,
        f"UPDATE sync.alembic_version SET version_num = '{BEFORE}'",
        "DROP INDEX mews.voucher_code_outbox_waiting_idx",
    )
    upgrade(before_url, "head")
    assert query(before_url, "SELECT version_num FROM sync.alembic_version") == [(head(),)]
    after = query(before_url, f"SELECT row.* FROM {TABLE} AS row")
    assert [row[: len(before[0])] for row in after] == before
    assert (query(before_url, BUILT), query(before_url, CHECKED)) == ([(2, True)], [(True,)])


def test_the_release_before_finds_nothing_due_that_waits(before_url: str) -> None:
    upgrade(before_url, AT)
    waits = f"SELECT 'delete', '{VOUCHER}', 'WINTER', id FROM {TABLE}"
    execute(before_url, f"INSERT INTO {TABLE} (operation, voucher_id, value, after_id) {waits}")
    # What that release goes by: status and next_attempt_at.
    due = f"SELECT operation FROM {TABLE} WHERE status = 'pending' AND next_attempt_at <= now()"
    assert query(before_url, due) == [("add",)]
