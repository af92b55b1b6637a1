"""`voucher-sync erase`: a code's text is gone from all that is kept beside the mirror, and nothing is made twice."""

import json
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from sync.schema import metadata
from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import OTHER, VOUCHER, add_row, query, run_fed, values

SECRET = "GÄST-2027/A"
LONGER = f"{SECRET}X"
CODE: LiteralString = (
    "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection, missing_since) "
    "VALUES (gen_random_uuid(), %s, %s, true, 'default', %s)"
)
VERSION: LiteralString = (
    "INSERT INTO mews.voucher_code_versions (voucher_code_id, valid_from, valid_to, changed, voucher_id, value, "
    "is_active, connection) VALUES (gen_random_uuid(), now(), now(), '{is_active}', %s, %s, true, 'default')"
)
REJECTED: LiteralString = (
    "INSERT INTO sync.rejected_records (connection, digest, kind, raw, reason) "
    "VALUES ('default', %s, 'VoucherCodes', %s, %s)"
)
AGAIN: LiteralString = (
    "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, idempotency_key) VALUES ('add', %s, %s, %s)"
)
ATTEMPT: LiteralString = (
    "INSERT INTO mews.voucher_code_outbox_attempts (outbox_id, attempt_id, sent_at, outcome, message) "
    "VALUES (%s, %s, now(), 'refused', %s)"
)


def set_as_daemon(url: str, assignments: LiteralString, *parameters: Any) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET voucher_sync.daemon = 'on'")
        connection.execute("UPDATE mews.voucher_code_outbox SET " + assignments, parameters)


@pytest.fixture
def filled_url(database_url: str) -> str:
    """A database that holds the text wherever it can be, and one that only begins like it."""
    done = add_row(database_url, SECRET, "done", note=f"for Mr. A ({SECRET}), not {LONGER}")
    failed = add_row(database_url, SECRET, "failed")
    add_row(database_url, LONGER, "done")
    set_as_daemon(database_url, "idempotency_key = %s WHERE id = %s", f"guest:{SECRET}", done)
    set_as_daemon(database_url, "last_error = %s WHERE id = %s", f"Code '{SECRET}' exists", failed)
    query(database_url, ATTEMPT, failed, OTHER, f"Code '{SECRET}' exists")
    for value in (SECRET, LONGER):
        query(database_url, VERSION, VOUCHER, value)
        query(database_url, CODE, VOUCHER, value, None)
        query(database_url, CODE, VOUCHER, value, "2026-01-01Z")
        escaped = json.dumps({"Id": 7, "Value": value}).replace("/", "\\/")
        query(database_url, REJECTED, value.encode(), escaped, f"cannot hold {value}")
    return database_url


def everything(url: str) -> dict[str, list[str]]:
    """Every row of every table, as texts."""
    found = {}
    with psycopg.connect(url) as connection:
        for table in metadata.sorted_tables:
            rows = connection.execute(f"SELECT row::text FROM {table.fullname} AS row ORDER BY 1".encode()).fetchall()
            found[table.fullname] = [row[0] for row in rows]
    return found


@pytest.mark.long
async def test_a_dry_run_tells_what_would_go_and_changes_nothing(cli: Cli, filled_url: str) -> None:
    before = everything(filled_url)
    told = await cli("erase", SECRET, "--json", settings={"DATABASE_URL": filled_url})
    assert json.loads(told.stdout) == {
        "erased": False, "changes": 2, "keys": 1, "texts": 4, "versions": 1, "rejected_records": 1, "missing_codes": 1,
        "kept": 1,
    }  # fmt: skip
    words = await cli("erase", SECRET, settings={"DATABASE_URL": filled_url})
    assert (words.code, SECRET in words.stdout + words.stderr) == (0, False)
    assert "Nothing is erased yet: this was a dry run; --yes does it." in words.stdout
    assert everything(filled_url) == before


@pytest.mark.long
async def test_it_is_gone_from_all_but_what_mews_has(cli: Cli, filled_url: str) -> None:
    before = query(
        filled_url, "SELECT id, status, finished_at, voucher_code_id FROM mews.voucher_code_outbox ORDER BY id"
    )
    told = await cli("erase", SECRET, "--yes", settings={"DATABASE_URL": filled_url})
    assert (told.code, "It is erased." in told.stdout) == (0, True)
    left = {
        table: [row for row in rows if SECRET in row and LONGER not in row]
        for table, rows in everything(filled_url).items()
    }
    assert {table: len(rows) for table, rows in left.items() if rows} == {"mews.voucher_codes": 1}
    assert "GÄST" not in str(everything(filled_url)["sync.rejected_records"]).replace(LONGER, "")
    assert values(filled_url) == ["[erased]", "[erased]", LONGER]
    assert before == query(
        filled_url, "SELECT id, status, finished_at, voucher_code_id FROM mews.voucher_code_outbox ORDER BY id"
    )
    (note,) = query(filled_url, "SELECT note FROM mews.voucher_code_outbox WHERE note IS NOT NULL")[0]
    assert note == f"for Mr. A (***), not {LONGER}"
    again = await cli("erase", SECRET, "--yes", settings={"DATABASE_URL": filled_url})
    assert "Nothing beside the mirror holds it." in again.stdout


@pytest.mark.parametrize("given", [b"A\xffB", b"A\0B"])
async def test_what_no_code_can_be_is_a_wrong_call(database_url: str, tmp_path: Path, given: bytes) -> None:
    ended = await run_fed("erase", "-", stdin=given, url=database_url, directory=tmp_path)
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.endswith("Error: Invalid value: is not a text in UTF-8, or holds a NUL\n")


@pytest.mark.long
async def test_what_is_erased_is_never_sent(cli: Cli, filled_url: str) -> None:
    settings = {"DATABASE_URL": filled_url}
    await cli("erase", SECRET, "--yes", settings=settings)
    ((failed,),) = query(filled_url, "SELECT id FROM mews.voucher_code_outbox WHERE status = 'failed'")
    retried = await cli("outbox", "retry", str(failed), settings=settings)
    assert (retried.code, retried.stderr) == (1, f"Row {failed} had its code erased: queue the change again.\n")
    with pytest.raises(psycopg.errors.CheckViolation, match="erased_rows_rest"):
        query(filled_url, "UPDATE mews.voucher_code_outbox SET status = 'pending' WHERE id = %s", failed)


@pytest.mark.parametrize("status", ["pending", "sending", "uncertain", "held"])
async def test_a_change_that_is_not_finished_keeps_its_code(cli: Cli, filled_url: str, status: str) -> None:
    row_id = add_row(filled_url, SECRET, status)
    before = everything(filled_url)
    refused = await cli("erase", SECRET, "--yes", settings={"DATABASE_URL": filled_url})
    assert (refused.code, refused.stdout) == (1, "")
    assert refused.stderr == (
        "Error: nothing is erased: changes of this code are not finished; cancel them or wait for their end: "
        f"row {row_id}\n"
    )
    assert everything(filled_url) == before


@pytest.mark.long
async def test_the_same_insert_under_its_key_is_refused_or_was_told_of(cli: Cli, filled_url: str) -> None:
    set_as_daemon(filled_url, "idempotency_key = 'order 17' WHERE status = 'failed'")
    await cli("erase", SECRET, "--yes", settings={"DATABASE_URL": filled_url})
    with pytest.raises(psycopg.errors.UniqueViolation, match="has the same key and asks for something else"):
        query(filled_url, AGAIN, VOUCHER, SECRET, "order 17")
    query(filled_url, AGAIN, VOUCHER, SECRET, f"guest:{SECRET}")


@pytest.mark.long
async def test_the_text_is_read_from_the_standard_input(filled_url: str, tmp_path: Path) -> None:
    ended = await run_fed("erase", "-", "--yes", stdin=f"{SECRET}\n".encode(), url=filled_url, directory=tmp_path)
    assert (ended.code, values(filled_url)) == (0, ["[erased]", "[erased]", LONGER])


@pytest.mark.parametrize("value", ["", "[erased]"])
async def test_no_text_is_a_wrong_call(cli: Cli, database_url: str, value: str) -> None:
    assert (await cli("erase", value, settings={"DATABASE_URL": database_url})).code == 2


KEEP: LiteralString = (
    "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS "
    "$$ BEGIN RETURN NULL; END $$"
)


@pytest.mark.sampled
@pytest.mark.parametrize("table", ["mews.voucher_code_outbox", "mews.voucher_code_versions", "mews.voucher_codes"])
async def test_what_something_keeps_as_it_is_is_not_called_erased(
    cli: Cli, filled_url: str, table: LiteralString
) -> None:
    query(filled_url, KEEP)
    query(
        filled_url, "CREATE TRIGGER a_first BEFORE UPDATE ON " + table + " FOR EACH ROW EXECUTE FUNCTION public.keep()"
    )
    before = values(filled_url)
    ended = await cli("erase", SECRET, "--yes", settings={"DATABASE_URL": filled_url})
    assert (ended.code, ended.stdout, values(filled_url)) == (1, "", before)
    assert f"Error: nothing is erased: something on {table} keeps " in ended.stderr
