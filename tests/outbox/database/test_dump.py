"""Whoever may read schema `mews` may take a copy of it, by PostgreSQL's own programs."""

import re
from pathlib import Path

import psycopg
import pytest

from sync.schema import metadata
from tests.support.database import code, store
from tests.support.documents import ROOT
from tests.support.dump import dump, restore_part, restore_what_can_be
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


@pytest.mark.long
async def test_the_tables_of_the_mirror_loaded_into_a_migrated_database_are_counted_once(
    outbox: Outbox, database_url: str, server_url: str, template: str, tmp_path: Path
) -> None:
    await outbox.add()
    await store(outbox.engine, code(1, "A"), code(2, "B"))
    named = re.findall(r"--table=(mews\.\w+)", (ROOT / "docs" / "bi.md").read_text(encoding="utf-8"))
    of_outbox = {"mews.voucher_code_outbox", "mews.voucher_code_outbox_attempts"}
    assert {*named, *of_outbox} == {str(table) for table in metadata.tables.values() if table.schema == "mews"}
    with login(database_url, member_of="mews_reader") as url:
        dump(url, tmp_path / "data.dump", "--data-only", *(f"--table={name}" for name in named))
    counted = (
        "SELECT (SELECT sum(issued) FROM mews.voucher_codes_by_month), (SELECT sum(active) FROM mews.voucher_stock)"
    )
    with new_database(server_url, template=template) as copy:
        restore_part(copy, tmp_path / "data.dump", "--data-only")
        with psycopg.connect(copy) as session, psycopg.connect(database_url) as original:
            assert session.execute(counted).fetchall() == original.execute(counted).fetchall() == [(2, 2)]
            assert session.execute("SELECT count(*) FROM mews.voucher_code_outbox").fetchone() == (0,)
