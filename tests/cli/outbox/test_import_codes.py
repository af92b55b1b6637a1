"""`voucher-sync outbox import`: the whole file is checked first, and queued in one transaction or not at all."""

import re
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from sync.cli.commands import voucher_sync
from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import (
    OTHER,
    READING,
    VOUCHER,
    query,
    refuse_value,
    run_fed,
    values,
    without_colours,
    write,
)
from tests.support.postgres import database_of
from tests.support.process import run_on_terminal
from tests.support.users import login


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    """A file."""
    return tmp_path / "codes.csv"


@pytest.mark.long
async def test_a_file_from_a_spreadsheet(cli: Cli, database_url: str, codes: Path) -> None:
    lines = [
        "Value;Voucher ID;validity_start_utc;Validity End UTC;not_before;note;idempotency_key",
        f'"A;1";{OTHER};2027-01-01;2027-02-01T01:00+01:00;2026-12-01T00:00:00Z;"says ""hi""";k-1',
        " ß-2 ;;;;;;",
        "",
    ]
    write(codes, b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    ended = await cli("outbox", "import", str(codes), "--voucher", VOUCHER, settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stdout) == (0, "2 codes queued.\n")
    assert sorted(line.split()[2] for line in ended.stderr.splitlines()[1:]) == [VOUCHER, OTHER]
    assert query(
        database_url,
        "SELECT value, voucher_id::text, validity_start_utc = '2027-01-01Z', validity_end_utc = '2027-02-01Z', "
        "not_before = '2026-12-01Z', note, idempotency_key, status, queued_by = current_user "
        "FROM mews.voucher_code_outbox ORDER BY id",
    ) == [
        ("A;1", OTHER, True, True, True, 'says "hi"', "k-1", "pending", True),
        ("ß-2", VOUCHER, None, None, None, None, None, "pending", True),
    ]
    again = await cli(
        "outbox", "import", str(codes), "--skip-bad", "--voucher", VOUCHER, settings={"DATABASE_URL": database_url}
    )
    assert again.code == 1
    assert again.stdout == "1 line queued before, under the same idempotency keys.\n"
    assert again.stderr == (
        "line 3: value: is queued already, as row 2 of the outbox\nError: nothing is queued: 1 bad line\n"
    )


@pytest.mark.long
async def test_one_code_on_each_line_from_the_standard_input(database_url: str, tmp_path: Path) -> None:
    call = ("outbox", "import", "-", "--voucher", VOUCHER)
    ended = await run_fed(*call, stdin=b"A-1\n\nA-2", url=database_url, directory=tmp_path)
    assert (ended.code, ended.stdout) == (0, "2 codes queued.\n")
    assert values(database_url) == ["A-1", "A-2"]


BAD = [
    ("SECRET-1;;;", None),
    (";;;x", "value: is empty"),
    ("S" * 129 + ";;;", "value: has 129 characters, the API takes 1 to 128"),
    ("SECRET-2;;01.02.2027;", "validity_end_utc: is no instant: write it as 2027-12-31, or 2027-12-31T22:59:59Z"),
    ("SECRET-1;;;", "value: line 2 has the same"),
    ("SECRET-Q;;;", "value: is queued already, as row 1 of the outbox"),
    ("SECRET-M;;;", "value: exists already, as an active code for the same time"),
    ("SECRET-M;;2027-01-01;", None),
    ("SECRET-3;;", "has 3 columns, and the first line has 4"),
    ("SECRET-4;SECRET-5;;", "voucher_id: is no id, such as 11111111-2222-3333-4444-555555555555"),
    ("SECRET\0-6;;;", "holds a NUL byte"),
    ("SECRET-7;;;k", None),
    ("SECRET-8;;;k", "idempotency_key: line 13 has the same"),
    (
        "SECRET-9;;;q",
        "idempotency_key: row 2 of the outbox has the same key, and asks for something else or was cancelled",
    ),
    ("SECRET-D;;;", None),
    ("SECRET-G;;;", None),
]
GOOD = ["SECRET-1", "SECRET-M", "SECRET-7", "SECRET-D", "SECRET-G"]


@pytest.mark.long
async def test_bad_lines_are_told_by_number_and_never_by_their_code(cli: Cli, database_url: str, codes: Path) -> None:
    mirrored = [("SECRET-M", "2027-02-01Z", True), ("SECRET-D", None, True), ("SECRET-G", None, False)]
    for value, validity_start, is_active in mirrored:
        query(
            database_url,
            "INSERT INTO mews.voucher_codes (id, voucher_id, value, validity_start_utc, is_active, connection) "
            "VALUES (gen_random_uuid(), %s, %s, %s, %s, 'default')",
            VOUCHER, value, validity_start, is_active,
        )  # fmt: skip
    queued = (
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, idempotency_key) VALUES (%s, %s, %s, %s)"
    )
    query(database_url, queued, "add", VOUCHER, "SECRET-Q", None)
    query(database_url, queued, "add", VOUCHER, "SECRET-K", "q")
    query(database_url, queued, "delete", VOUCHER, "SECRET-D", None)
    before = values(database_url)
    write(codes, "\n".join(["value;voucher_id;validity_end_utc;idempotency_key", *(line for line, _ in BAD)]))
    told = [f"line {number}: {reason}" for number, (_, reason) in enumerate(BAD, 2) if reason]
    call = ("outbox", "import", str(codes), "--voucher", VOUCHER)
    settings = {"DATABASE_URL": database_url}

    ended = await cli(*call, settings=settings)
    last = f"Error: nothing is queued: {len(told)} bad lines; --skip-bad would queue the other {len(GOOD)}"
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.splitlines() == [*told, last]
    assert "SECRET" not in ended.stderr
    assert values(database_url) == before

    dry = await cli(*call, "--skip-bad", "--dry-run", settings=settings)
    skipped = f"{len(told)} bad lines skipped"
    assert dry.code == 0
    assert dry.stdout == f"{len(GOOD)} codes would be queued; {skipped}. Nothing is queued: this is a dry run.\n"
    assert values(database_url) == before

    done = await cli(*call, "--skip-bad", settings=settings)
    assert (done.code, done.stdout) == (0, f"{len(GOOD)} codes queued; {skipped}.\n")
    assert done.stderr.splitlines()[1:-1] == told
    assert values(database_url) == [*before, *GOOD]


@pytest.mark.long
async def test_many_lines_and_the_same_again(cli: Cli, database_url: str, codes: Path) -> None:
    settings = {"DATABASE_URL": database_url}
    wanted = [f"SECRET-{number:05}" for number in range(20_000)]
    write(codes, "\n".join(["value", *wanted]))
    call = ("outbox", "import", str(codes), "--voucher", VOUCHER)
    on_terminal = settings | {"COLUMNS": "100", "TERM": "xterm"}
    ended = await run_on_terminal(*call, settings=on_terminal, directory=codes.parent)
    assert (ended.code, ended.stdout.count("\n20,000 codes queued.\n")) == (0, 1)
    assert re.search(r"Reading .*Queueing .* 20001/20001 lines", without_colours(ended.stdout), re.DOTALL)
    assert values(database_url) == wanted
    again = await cli(*call, settings=settings)
    *listed, more, error = again.stderr.splitlines()
    assert again.code == 1
    assert [line.partition(":")[0] for line in listed] == [f"line {number}" for number in range(2, 102)]
    assert (more, error) == ("... and 19,900 more bad lines", "Error: nothing is queued: 20,000 bad lines")
    assert "SECRET" not in again.stderr
    assert len(values(database_url)) == 20_000


@pytest.mark.long
async def test_all_of_it_or_nothing(cli: Cli, database_url: str, codes: Path) -> None:
    refuse_value(database_url, "LAST")
    write(codes, "\n".join(["value", *(f"A{number}" for number in range(10_000)), "SECRET-LAST"]))
    call = ("outbox", "import", str(codes), "--voucher", VOUCHER, "--skip-bad")
    ended = await cli(*call, settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: new row for relation")
    assert "house_rule" in ended.stderr
    assert "SECRET" not in ended.stderr
    assert values(database_url) == []


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
async def test_what_excel_has_left_of_codes_is_told_line_by_line(
    cli: Cli, database_url: str, codes: Path, encoding: str
) -> None:
    lines = ["sep=;", "value;note;", "WHOLE-ß;;", ";;", '"=""00123""";;', "1,23457E+11;x;", ";;", "3-Jan;;"]
    write(codes, "\r\n".join(lines).encode(encoding))
    words = ["outbox", "import", str(codes), "--voucher", VOUCHER]
    ended = await cli(*words, settings={"DATABASE_URL": database_url})
    assert ended.code == 1
    assert [line.partition(":")[0] for line in ended.stderr.splitlines()] == ["line 5", "line 6", "line 8", "Error"]
    assert "00123" not in ended.stderr
    ended = await cli(*words, "--as-is", settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stdout) == (0, "4 codes queued.\n")
    assert query(database_url, "SELECT value FROM mews.voucher_code_outbox ORDER BY id") == [
        ("WHOLE-ß",),
        ('="00123"',),
        ("1,23457E+11",),
        ("3-Jan",),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (bytes(range(256)) * 200, "first line is not a text in UTF-8"),
        (b"value;note\r\n\r\n", "the file holds no codes"),
    ],
    ids=["binary", "header"],
)
async def test_a_file_that_is_none(cli: Cli, database_url: str, codes: Path, content: bytes, words: str) -> None:
    write(codes, content)
    call = ("outbox", "import", str(codes), "--voucher", VOUCHER, "--skip-bad")
    ended = await cli(*call, settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stdout) == (1, "")
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "SECRET" not in ended.stderr
    assert values(database_url) == []


def test_a_file_that_is_not_there(codes: Path) -> None:
    result = CliRunner().invoke(voucher_sync, ["outbox", "import", str(codes), "--voucher", VOUCHER])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such file or directory" in result.stderr


@pytest.mark.long
async def test_interrupted_while_it_reads(database_url: str, tmp_path: Path) -> None:
    call = ("outbox", "import", "-", "--voucher", VOUCHER)
    ended = await run_fed(*call, stdin=b"value\nA\n", url=database_url, directory=tmp_path, interrupt_in=READING)
    assert (ended.code, ended.stdout, ended.stderr.strip()) == (130, "", "")
    assert values(database_url) == []


@pytest.mark.long
async def test_a_user_who_may_make_no_temporary_table_is_told_what_to_grant(
    cli: Cli, database_url: str, codes: Path
) -> None:
    write(codes, b"A\n")
    database = f'"{database_of(database_url)}"'
    with psycopg.connect(database_url, autocommit=True) as owner, login(database_url, member_of="mews_writer") as url:
        owner.execute(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC".encode())
        grant, many = "", (["import", str(codes)], ["generate", "--count", "2", "--pattern", "X-????-????-????"])
        for command in many:
            ended = await cli("outbox", *command, "--voucher", VOUCHER, settings={"DATABASE_URL": url})
            assert (ended.code, ended.stdout) == (1, "")
            _, _, grant = ended.stderr.strip().rpartition("let its owner run: ")
        owner.execute(grant.encode())
        for command in many:
            ended = await cli("outbox", *command, "--voucher", VOUCHER, settings={"DATABASE_URL": url})
            assert ended.code == 0, ended
        owner.execute(f"GRANT TEMPORARY ON DATABASE {database} TO PUBLIC".encode())
        owner.execute(f"{grant.replace('GRANT', 'REVOKE').replace(' TO ', ' FROM ')}".encode())
