"""Whoever may read schema `mews` may take a copy of it, by PostgreSQL's own programs."""

import re
from pathlib import Path

import psycopg
import pytest

from tests.support.database import code, store
from tests.support.dump import dump, restore_what_can_be
from tests.support.postgres import new_database
from tests.support.queue import Outbox
from tests.support.users import login

OF_SYNC = {"mews.coverage", "mews.connection_coverage", "mews.voucher_codes_by_month", "mews.voucher_stock"}
"""Views that are made of schema `sync`, too, as docs/bi.md says."""


@pytest.mark.long
@pytest.mark.parametrize("role", ["mews_reader", "mews_writer", "mews_operator"])
async def test_who_reads_mews_may_dump_it_and_load_the_tables_elsewhere(
    outbox: Outbox, database_url: str, server_url: str, tmp_path: Path, role: str
) -> None:
    await outbox.add()
    await store(outbox.engine, code(1, "A"), code(2, "B"))
    with login(database_url, member_of=role) as url:
        dump(url, tmp_path / "mews.dump", "--schema=mews")
    with new_database(server_url) as copy:
        refused = restore_what_can_be(copy, tmp_path / "mews.dump")
        views = set(re.findall("Command was: CREATE VIEW ([a-z_.]+)", refused))
        assert views == OF_SYNC
        with psycopg.connect(copy) as session:
            found = session.execute("SELECT value FROM mews.voucher_codes_named ORDER BY value").fetchall()
            queued = session.execute("SELECT count(*) FROM mews.voucher_code_outbox").fetchall()
    assert (found, queued) == ([("A",), ("B",)], [(1,)])
