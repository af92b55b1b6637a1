"""`voucher-sync outbox list --code`, `reasons` and `export`: why a code failed, and what was made."""

import csv
import io
import json
import stat
from pathlib import Path

import psycopg
import pytest

from sync.cli.outbox.export import export
from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import OTHER, VOUCHER, add_row, query, without_colours
from tests.support.process import run_on_terminal

SECRET = "SUMMER-2027"
KNOWN = (
    "INSERT INTO mews.vouchers (id, service_id, name, external_identifier, is_active, connection) "
    "VALUES (%s, gen_random_uuid(), %s, %s, true, 'default')"
)


def say(url: str, row_id: int, words: str) -> None:
    """The words that a row ended with."""
    with psycopg.connect(url) as connection:
        connection.execute("SET voucher_sync.daemon = 'on'")
        connection.execute("UPDATE mews.voucher_code_outbox SET last_error = %s WHERE id = %s", [words, row_id])


@pytest.fixture
def settings(database_url: str) -> dict[str, str]:
    """Of a database that knows a voucher, Winter."""
    query(database_url, KNOWN, VOUCHER, "Winter", "crm-17")
    return {"DATABASE_URL": database_url}


@pytest.mark.long
async def test_it_is_told_by_its_text_why_a_code_failed_and_what_the_mirror_has(
    cli: Cli, database_url: str, settings: dict[str, str]
) -> None:
    add_row(database_url, "ANOTHER", "failed")
    failed = add_row(database_url, SECRET, "failed")
    say(database_url, failed, f"Code {SECRET} exists already")
    query(
        database_url,
        "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection) VALUES (%s, %s, %s, true, 'x')",
        OTHER, VOUCHER, SECRET,
    )  # fmt: skip
    call = ("outbox", "list", "--code", SECRET)
    row, total, mirrored = (await cli(*call, settings=settings)).stdout.splitlines()
    fields = row.split("\t")
    assert (fields[0], fields[2], fields[6], fields[-1]) == (str(failed), "failed", "Code *** exists already", "Winter")
    assert total == "In all: 1 failed."
    assert mirrored == f"In the mirror: active in voucher Winter ({VOUCHER}), id {OTHER}."
    found = json.loads((await cli(*call, "--json", settings=settings)).stdout)
    assert [one["id"] for one in found["rows"]] == [failed]
    assert [(one["id"], one["voucher_name"]) for one in found["mirrored"]] == [(OTHER, "Winter")]
    nothing = await cli("outbox", "list", "--code", "NOWHERE", settings=settings)
    assert nothing.stdout == "Nothing is queued.\nIn the mirror: no such code.\n"


@pytest.mark.sampled
@pytest.mark.parametrize("named", [VOUCHER, "Winter", "crm-17"])
async def test_a_voucher_is_named_by_its_id_name_or_external_identifier(
    cli: Cli, database_url: str, settings: dict[str, str], named: str
) -> None:
    queued = await cli("outbox", "add", "--voucher", named, SECRET, settings=settings)
    assert (queued.code, queued.stdout) == (0, "Row 1 is pending\n")
    generated = await cli(
        "outbox", "generate", "--voucher", named, "--count", "3", "--pattern", "X-######", settings=settings
    )
    assert (generated.code, generated.stdout) == (0, "3 codes queued.\n")
    add_row(database_url, SECRET, voucher=OTHER)
    listed = await cli("outbox", "list", "--voucher", named, settings=settings)
    assert listed.stdout.splitlines()[-1] == "In all: 4 pending."
    cancelled = await cli("outbox", "cancel", "--all", "--voucher", named, settings=settings)
    assert (cancelled.code, cancelled.stdout) == (0, "4 rows are cancelled.\n")
    assert query(database_url, "SELECT DISTINCT voucher_id::text FROM mews.voucher_code_outbox ORDER BY 1") == [
        (VOUCHER,),
        (OTHER,),
    ]


@pytest.mark.long
async def test_a_name_that_is_no_voucher_s_or_of_several_is_refused(
    cli: Cli, database_url: str, settings: dict[str, str]
) -> None:
    none = await cli("outbox", "add", "--voucher", "Spring", SECRET, settings=settings)
    assert (none.code, none.stdout) == (1, "")
    assert none.stderr.startswith("Error: the mirror knows no voucher of this name or external identifier: see")
    nothing = await cli("outbox", "add", "--voucher", "", SECRET, settings=settings)
    assert (nothing.code, "Invalid value for '--voucher': is empty" in nothing.stderr) == (2, True)
    query(database_url, KNOWN, OTHER, "Winter", None)
    several = await cli("outbox", "add", "--voucher", "Winter", SECRET, settings=settings)
    assert several.code == 1
    assert "2 vouchers have this name or external identifier; name one by its id: " in several.stderr
    assert VOUCHER in several.stderr
    query(database_url, "UPDATE mews.vouchers SET is_active = false WHERE id = %s", OTHER)
    assert (await cli("outbox", "add", "--voucher", "Winter", SECRET, settings=settings)).code == 0


@pytest.mark.long
async def test_reasons_that_differ_in_a_code_alone_are_one(
    cli: Cli, database_url: str, settings: dict[str, str]
) -> None:
    rows = [add_row(database_url, f"{SECRET}-{number}", "failed") for number in range(3)]
    for number, row_id in enumerate(rows):
        say(database_url, row_id, f"Code {SECRET}-{number} of {OTHER} is taken by row {number}")
    say(
        database_url,
        add_row(database_url, f"{SECRET}  (4)", "failed"),
        f"Code {SECRET.lower()} (4) of {OTHER} is taken by row 4",
    )
    other = add_row(database_url, "MANY-7", "held")
    say(database_url, other, "held: too many")
    listed = await cli("outbox", "reasons", settings=settings)
    first, second = (line.split("\t") for line in listed.stdout.splitlines())
    assert (first[:4], first[5]) == (["4", "add", "failed", str(rows[-1] + 1)], "Code *** of <id> is taken by row N")
    assert (second[:4], second[5]) == (["1", "add", "held", str(other)], "held: too many")
    found = json.loads((await cli("outbox", "reasons", "--status", "held", "--json", settings=settings)).stdout)
    assert [(one["number"], one["reason"]) for one in found["reasons"]] == [(1, "held: too many")]
    shown = listed.stdout + (await cli("outbox", "list", settings=settings)).stdout
    assert SECRET not in shown.upper()


@pytest.mark.long
async def test_what_was_made_is_exported_with_its_ids(
    cli: Cli, database_url: str, settings: dict[str, str], tmp_path: Path
) -> None:
    made = [add_row(database_url, f'=1+"{number}', "done", note="brochure") for number in range(3)]
    add_row(database_url, "OTHER NOTE", "done", note="n")
    add_row(database_url, "FAILED", "failed", note="brochure")
    exported = await cli("outbox", "export", "--note", "brochure", settings=settings)
    assert (exported.code, exported.stderr.splitlines()[0]) == (0, "3 rows exported.")
    assert exported.stderr.splitlines()[1].startswith("Note: 3 cells that a spreadsheet would run as a formula, marked")
    found = list(csv.DictReader(io.StringIO(exported.stdout)))
    assert [int(row["id"]) for row in found] == made
    assert [row["value"] for row in found] == [f"'=1+\"{number}" for number in range(3)]
    exact = await cli("outbox", "export", "--note", "brochure", "--as-is", settings=settings)
    values = [row["value"] for row in csv.DictReader(io.StringIO(exact.stdout))]
    assert (exact.stderr, values) == ("3 rows exported.\n", [f'=1+"{number}' for number in range(3)])
    assert {(row["voucher_code_id"], row["voucher_name"], row["status"]) for row in found} == {
        (OTHER, "Winter", "done")
    }
    assert {row["finished_at"] for row in found} == {"2026-01-01T00:00:00+00:00"}

    file = tmp_path / "made.csv"
    chosen = ("--status", "failed", "--by", "nobody", "--output", str(file))
    assert (await cli("outbox", "export", *chosen, settings=settings)).stderr == "0 rows exported.\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = await cli("outbox", "export", *chosen, settings=settings)
    assert (again.code, f"{file} exists: name a new file" in again.stderr) == (2, True)
    when = ("--since", "2026-01-01", "--until", "2026-01-02")
    assert "4 rows exported" in (await cli("outbox", "export", *when, settings=settings)).stderr
    none = await cli("outbox", "export", "--since", "2026-01-02", settings=settings)
    assert none.stderr == "0 rows exported.\n"


@pytest.mark.long
async def test_the_list_fits_80_columns(database_url: str, settings: dict[str, str], tmp_path: Path) -> None:
    query(database_url, "ALTER SEQUENCE mews.voucher_code_outbox_id_seq RESTART WITH 1234567")
    row_id = add_row(database_url, f"{SECRET}-12345", "uncertain", note="for the brochure of the summer")
    say(database_url, row_id, "a reason of many words, which goes on and on until it needs more than a line " * 2)
    on_80 = settings | {"COLUMNS": "80", "NO_COLOR": "1"}
    for call in (("list",), ("list", "--values"), ("reasons", "--status", "uncertain")):
        shown = without_colours((await run_on_terminal("outbox", *call, settings=on_80, directory=tmp_path)).stdout)
        assert max(map(len, shown.splitlines())) <= 80
        assert {"1234567", "uncertain"} <= set(shown.split())
        assert VOUCHER not in shown


@pytest.mark.long
async def test_a_long_name_of_who_changed_a_row_leaves_room_for_the_rest(
    database_url: str, settings: dict[str, str], tmp_path: Path
) -> None:
    failed = add_row(database_url, SECRET, "failed", changed_by="reporting-of-the-hotels@project.example.iam")
    say(database_url, failed, "refused, since the voucher is deleted")
    shown = await run_on_terminal("outbox", "list", settings=settings | {"COLUMNS": "80"}, directory=tmp_path)
    assert {"Winter", "refused,", "since", "voucher", "deleted"} <= set(without_colours(shown.stdout).split())


def test_an_export_lasts_as_long_as_its_reader_takes(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_row(database_url, SECRET)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setattr("sync.postgres.engine.TRANSACTION_TIMEOUT_S", 0)  # any reader takes longer
    export(output=tmp_path / "all.csv", as_is=False)
    (row,) = csv.DictReader((tmp_path / "all.csv").read_text(encoding="utf-8").splitlines())
    assert row["value"] == SECRET
