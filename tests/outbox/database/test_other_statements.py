"""Whatever else SQL has to offer gives no role more than it was granted."""

import pytest

from sync.core.errors import DatabaseError
from tests.support.database import rows
from tests.support.queue import Outbox, execute
from tests.support.users import user

OUTBOX = "mews.voucher_code_outbox"
ATTEMPTS = [
    *(f"LOCK TABLE {OUTBOX} IN {mode} MODE" for mode in ("ROW EXCLUSIVE", "SHARE", "ACCESS EXCLUSIVE")),
    "LOCK TABLE mews.voucher_codes IN SHARE MODE",
    "SELECT * FROM mews.voucher_codes FOR UPDATE",
    "SELECT * FROM mews.vouchers FOR KEY SHARE",
    f"COPY {OUTBOX} TO PROGRAM 'cat'",
    "COPY (SELECT access_token FROM sync.connections) TO STDOUT",
    "SELECT setval('mews.voucher_code_outbox_id_seq', 1)",
    "ALTER SEQUENCE mews.voucher_code_outbox_id_seq RESTART",
    f"CREATE TRIGGER mine BEFORE INSERT ON {OUTBOX} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    f"CREATE RULE mine AS ON INSERT TO {OUTBOX} DO INSTEAD NOTHING",
    f"CREATE TEMPORARY TABLE mine () INHERITS ({OUTBOX})",
    f"CREATE INDEX ON {OUTBOX} (note)",
    f"CREATE STATISTICS mine ON value, note FROM {OUTBOX}",
    f"CREATE POLICY mine ON {OUTBOX}",
    f"ALTER TABLE {OUTBOX} ENABLE ROW LEVEL SECURITY",
    f"CREATE PUBLICATION mine FOR TABLE {OUTBOX}",
    f"REINDEX TABLE {OUTBOX}",
    f"COMMENT ON TABLE {OUTBOX} IS 'mine'",
    "GRANT mews_operator TO CURRENT_USER",
    "SELECT connection FROM sync.connections AS connection",
    "SELECT to_jsonb(connection) FROM sync.connections AS connection",
    "EXPLAIN SELECT access_token FROM sync.connections",
    "SELECT query_to_xml('SELECT access_token FROM sync.connections', true, true, '')",
    "UPDATE sync.connections SET paused_at = now()",
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename <> session_user AND pid <> pg_backend_pid()",
]


@pytest.mark.parametrize("role", ["mews_reader", "mews_writer", "mews_operator"])
async def test_no_other_statement_gives_a_role_more(outbox: Outbox, database_url: str, role: str) -> None:
    await outbox.add()
    before = await rows(outbox.engine, f"SELECT * FROM {OUTBOX}")
    async with user(database_url, role) as one:
        for attempt in ATTEMPTS:
            with pytest.raises(DatabaseError, match=r"\(42501\)"):
                await execute(one.engine, attempt)
        found = await rows(one.engine, "SELECT most_common_vals FROM pg_stats WHERE attname = 'access_token'")
        assert found == []
    assert await rows(outbox.engine, f"SELECT * FROM {OUTBOX}") == before
