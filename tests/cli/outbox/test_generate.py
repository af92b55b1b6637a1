"""`voucher-sync outbox generate`: new codes, unlike all that exist, and kept from everyone else."""

import csv
import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from sync.cli.commands import voucher_sync
from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import OTHER, VOUCHER, query, refuse_value, values


def call(*, count: int, pattern: str) -> tuple[str, ...]:
    """A call, without its options."""
    return ("outbox", "generate", "--voucher", VOUCHER, "--count", str(count), "--pattern", pattern)


@pytest.mark.long
async def test_codes_are_queued_and_written_for_their_owner(cli: Cli, database_url: str, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": database_url}
    output = tmp_path / "codes.csv"
    options = ("--from", "2027-12-01", "--to", "2027-12-27", "--not-before", "2027-11-01", "--note", "xmas")
    asked = (*call(count=300, pattern="XMAS-####-????"), *options, "--output", str(output))
    ended = await cli(*asked, settings=settings)
    assert (ended.code, ended.stdout) == (0, f"300 codes queued, and written into {output}.\n")
    queued = values(database_url)
    assert len(set(queued)) == 300
    assert all(re.fullmatch(r"XMAS-[0-9]{4}-[2-9A-HJKMNP-Z]{4}", value) for value in queued)
    assert query(
        database_url,
        "SELECT DISTINCT operation, status, voucher_id::text, note, validity_start_utc = '2027-12-01Z', "
        "validity_end_utc = '2027-12-27Z', not_before = '2027-11-01Z' FROM mews.voucher_code_outbox",
    ) == [("add", "pending", VOUCHER, "xmas", True, True, True)]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    written = list(csv.DictReader(output.read_text().splitlines()))
    assert [row["value"] for row in written] == queued
    assert {row["voucher_id"] for row in written} == {VOUCHER}
    assert {row["validity_end_utc"] for row in written} == {"2027-12-27T00:00:00+00:00"}
    assert not any(value in ended.stdout + ended.stderr for value in queued)

    before = output.read_bytes()
    again = await cli(*asked, settings=settings)
    assert (again.code, again.stdout) == (2, "")
    assert f"{output} exists: name a new file" in again.stderr
    assert (output.read_bytes(), values(database_url)) == (before, queued)


@pytest.mark.long
async def test_a_dry_run_shows_what_they_look_like(cli: Cli, database_url: str, tmp_path: Path) -> None:
    asked = (*call(count=5000, pattern="X-?????"), "--dry-run", "--output", str(tmp_path / "new.csv"))
    ended = await cli(*asked, settings={"DATABASE_URL": database_url})
    assert ended.code == 0
    shown = re.fullmatch(
        r"5,000 codes would be queued, such as (.+)\. Nothing is queued: this is a dry run\.\n", ended.stdout
    )
    assert shown
    samples = shown[1].split(", ")
    assert len(set(samples)) == 3
    assert all(re.fullmatch("X-[2-9A-Z]{5}", sample) for sample in samples)
    assert values(database_url) == []
    assert not (tmp_path / "new.csv").exists()


@pytest.mark.long
async def test_codes_that_exist_or_were_queued_come_no_second_time(cli: Cli, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url}
    # Of the 10,000 codes the mirror has two fifths, and the outbox as many, so ten new ones by chance are no risk.
    query(
        database_url,
        "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection) SELECT gen_random_uuid(), %s, "
        "to_char(n, 'FM0000'), n %% 2 = 0, 'default' FROM generate_series(0, 3999) AS n",
        VOUCHER,
    )
    add = (
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
        "SELECT 'add', %s, to_char(n, 'FM0000') FROM generate_series(%s::int, %s::int) AS n"
    )
    query(database_url, add, VOUCHER, 4000, 7999)
    ended = await cli(*call(count=10, pattern="####"), settings=settings)
    assert (ended.code, ended.stdout) == (0, "10 codes queued.\n")
    made = values(database_url)[4000:]
    assert len(set(made)) == 10
    assert min(made) >= "8000"

    # Another voucher's codes are no obstacle; its own are, once nothing is left.
    query(database_url, "DELETE FROM mews.voucher_code_outbox WHERE value = ANY (%s)", made)
    query(database_url, add, OTHER, 8000, 9999)
    assert (await cli(*call(count=10, pattern="####"), "--dry-run", settings=settings)).code == 0
    query(database_url, add, VOUCHER, 8000, 9999)
    full = await cli(*call(count=10, pattern="####"), "--output", "new.csv", settings=settings)
    assert (full.code, full.stdout) == (1, "")
    assert full.stderr.startswith("Error: too many of the pattern's combinations exist as codes already")


async def test_what_cannot_be_queued_is_not_left_in_a_file(cli: Cli, database_url: str, tmp_path: Path) -> None:
    refuse_value(database_url, "^X-")
    output = tmp_path / "new.csv"
    asked = (*call(count=10, pattern="X-?????"), "--output", str(output))
    ended = await cli(*asked, settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stdout) == (1, "")
    assert "house_rule" in ended.stderr
    assert not re.search("X-[2-9A-Z]{5}", ended.stderr)
    assert not output.exists()


def test_a_file_that_cannot_be_made(tmp_path: Path) -> None:
    output = tmp_path / "missing" / "new.csv"
    asked = (*call(count=10, pattern="X-?????"), "--output", str(output))
    result = CliRunner().invoke(voucher_sync, asked)
    assert str(result.exception) == f"{output} cannot be written: No such file or directory; nothing is done"


@pytest.mark.parametrize(
    ("count", "pattern", "options", "words"),
    [
        (
            5000,
            "X-????",
            [],
            "has 923,521 combinations, and so that nobody guesses a code it must have 5,000,000: put 1",
        ),
        (1, "SUMMER", [], "has 1 combination,"),
        (1, "?" * 129, [], "has 129 characters, and a code may have 128"),
        (0, "????", [], "0 is not in the range"),
        (1, "????", ["--from", "2027-01-02", "--to", "2027-01-01"], "--to lies before --from"),
    ],
)
def test_a_call_that_is_wrong(count: int, pattern: str, options: list[str], words: str) -> None:
    result = CliRunner().invoke(voucher_sync, [*call(count=count, pattern=pattern), *options])
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
