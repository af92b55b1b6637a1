"""Whatever the environment and the standard streams are like: it works, or says in a line what is wrong."""

import asyncio
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from sync.cli import ending, main, streams
from sync.core.internal_errors import WHAT_TO_SEND
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror
from tests.support.process import OWN_PREFIXES, Ended, end

from .conftest import Cli

API = {"MEWS_PLATFORM_ADDRESS": "https://api.mews.example", "MEWS_CLIENT_TOKEN": CLIENT_TOKEN}
QUIET = {"SYNC_LOG_LEVEL": "warning"}
API |= {"MEWS_ACCESS_TOKEN": ACCESS_TOKEN}


async def in_shell(script: str, settings: Mapping[str, str], directory: Path) -> Ended:
    """What a script of the shell does, in which `voucher-sync` is the command."""
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(OWN_PREFIXES)}
    command = script.replace("voucher-sync", f"{shlex.quote(sys.executable)} -m sync")
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command, env={**others, **settings}, cwd=directory,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    ended = await end(process)
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "Exception ignored" not in ended.stderr
    return ended


@pytest.mark.long
@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "ALL_PROXY: a SOCKS proxy cannot be used"),
        ("HTTPS_PROXY", "http://u:the-password@127.0.0.1:port", "HTTPS_PROXY: cannot be read"),
        ("SSL_CERT_FILE", "/missing.pem", "SSL_CERT_FILE: /missing.pem cannot be used"),
        ("SSLKEYLOGFILE", "/missing/keys", "SSLKEYLOGFILE: the file that it names cannot be written"),
    ],
)
async def test_a_way_to_the_api_that_cannot_be_gone_is_named(
    cli: Cli, database_url: str, variable: str, value: str, words: str
) -> None:
    ended = await cli("once", settings=API | {"DATABASE_URL": database_url, variable: value})
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"Error: {words}")
    assert len(ended.stderr.splitlines()) == 1


STRANGE = {
    "TZ": "UTC+2",
    "NO_PROXY": "fd00::/8",
    "LC_ALL": "xx_YY.UTF-8",
    "LANG": "tr_TR",
    "PYTHONIOENCODING": "ascii",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "NO_COLOR": "1",
    "COLUMNS": "0",
    "TERM": "dumb",
    "PGSERVICEFILE": "/missing",
    "PGPASSFILE": "/missing",
    "PGPORT": "nonsense",
    "PGHOST": "nowhere.invalid",
    "PGCLIENTENCODING": "SQL_ASCII",
    "PGCONNECT_TIMEOUT": "soon",
    "CURL_CA_BUNDLE": "/missing",
}


@pytest.mark.long
async def test_what_is_strange_and_does_no_harm_is_passed_over(cli: Cli, mirror: Mirror) -> None:
    async with mirror.served():
        strange = mirror.environment | STRANGE
        assert (await cli("once", settings=strange)).code == 0
        status = await cli("status", settings=strange)
        assert (status.code, status.stderr) == (0, "")
        assert "complete through" in status.stdout


@pytest.mark.long
async def test_no_colours_forced_on_a_pipe_bring_bars_into_a_log_or_a_table_to_a_script(
    cli: Cli, mirror: Mirror
) -> None:
    forced = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "TTY_COMPATIBLE": "1", "PY_COLORS": "1"}
    async with mirror.served():
        settings = mirror.environment | QUIET | forced
        once = await cli("once", settings=settings)
        queued = await cli("outbox", "import", "/dev/stdin", "--voucher", str(uuid4()), settings=settings)
        audited = await cli("audit", settings=settings)
        await cli("outbox", "delete", "--voucher", str(uuid4()), "A", settings=settings)
        listed = await cli("outbox", "list", settings=settings)
    assert (once.code, queued.code, audited.code) == (0, 1, 0)
    for ended in (once, queued, audited, listed):
        assert "\x1b" not in ended.stderr
    assert len(listed.stdout.splitlines()[0].split("\t")) == 9


@pytest.mark.parametrize("name", ["COLUMNS", "LINES"])
@pytest.mark.parametrize("measure", ["0", "\u00b2", "-3", "99999999999999", "wide", "\u0664"])
def test_a_measure_that_no_terminal_has_is_forgotten(monkeypatch: pytest.MonkeyPatch, name: str, measure: str) -> None:
    monkeypatch.setenv(name, measure)
    streams.prepare()
    assert name not in os.environ


@pytest.mark.parametrize("name", ["COLUMNS", "LINES"])
def test_a_measure_that_a_terminal_may_have_is_kept(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "132")
    streams.prepare()
    assert os.environ[name] == "132"


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["latin-1", "ascii:strict"])
async def test_what_an_encoding_cannot_hold_is_shown_by_its_number(cli: Cli, mirror: Mirror, encoding: str) -> None:
    settings = {"DATABASE_URL": mirror.database_url, "PYTHONIOENCODING": encoding}
    queued = await cli("outbox", "delete", "--voucher", str(uuid4()), "CAFE→☕", settings=settings)
    shown = await cli("outbox", "list", "--values", settings=settings)
    assert (queued.code, shown.code, shown.stderr) == (0, 0, "")
    assert r"CAFE\u2192\u2615" in shown.stdout


@pytest.mark.parametrize(
    "redirection", [*(pytest.param(one, marks=pytest.mark.long) for one in ("<&-", ">&-", "2>&-")), "<&- >&- 2>&-"]
)
async def test_streams_may_be_closed(mirror: Mirror, tmp_path: Path, redirection: str) -> None:
    async with mirror.served():
        ended = await in_shell(f"voucher-sync once {redirection}", mirror.environment | QUIET, tmp_path)
    assert (ended.code, ended.stderr) == (0, "")
    assert ("codes read" in ended.stdout) is (">&-" not in redirection.replace("2>&-", ""))


@pytest.mark.long
async def test_rows_that_would_get_nowhere_are_not_said_to_be_exported(mirror: Mirror, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": mirror.database_url}
    nowhere = await in_shell("voucher-sync outbox export >&-", settings, tmp_path)
    assert (nowhere.code, "name a file with --output" in nowhere.stderr) == (2, True)
    into_a_file = await in_shell("voucher-sync outbox export --output rows.csv >&-", settings, tmp_path)
    assert (into_a_file.code, into_a_file.stderr) == (0, "0 rows exported.\n")


async def test_a_full_output_is_told(tmp_path: Path) -> None:
    ended = await in_shell("voucher-sync --version >/dev/full", {}, tmp_path)
    assert ended.code == 1
    assert ended.stderr.startswith("Error: the operating system refused: No space left on device; ")
    assert ended.stderr.endswith("what was asked for may be done: look before you do it again\n")


@pytest.mark.long
async def test_a_note_for_which_there_is_no_room_is_no_failure(mirror: Mirror, tmp_path: Path) -> None:
    settings = {"DATABASE_URL": mirror.database_url}
    noted = f"voucher-sync outbox delete --voucher {uuid4()} A"
    ended = await in_shell(f"{noted} 2>/dev/full", settings, tmp_path)
    assert (ended.code, ended.stdout) == (0, "Row 1 is pending\n")


async def test_a_reader_that_has_seen_enough_is_no_fault(tmp_path: Path) -> None:
    ended = await in_shell("{ voucher-sync outbox --help; echo $? >&2; } | true", {}, tmp_path)
    assert ended.stderr == "0\n"


@pytest.mark.long
async def test_a_working_directory_that_is_gone_is_no_fault(tmp_path: Path, mirror: Mirror) -> None:
    (tmp_path / "gone").mkdir()
    async with mirror.served():
        remove = f"'{sys.executable}' -c 'import os; os.rmdir(\"../gone\")'"
        script = f"cd gone && {remove} && PYTHONPATH= voucher-sync status"
        settings = mirror.environment | {"PYTHONSAFEPATH": "1"}
        ended = await in_shell(script, settings, tmp_path)
    assert (ended.code, ended.stderr) == (0, "")


@pytest.mark.long
async def test_no_descriptors_left_is_told(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.served():
        ended = await in_shell("ulimit -n 6; voucher-sync once", mirror.environment, tmp_path)
    assert ended.code == 1
    assert "Too many open files" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.long
async def test_a_low_limit_of_descriptors_is_told_by_check(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.served():
        checked = await in_shell("ulimit -n 128; voucher-sync check", mirror.environment, tmp_path)
    assert re.search(
        r"^ok +host: .* leaves room for 80 of 250 calls in flight \(SYNC_PLATFORM_CALLS_IN_FLIGHT\)$",
        checked.stdout,
        re.MULTILINE,
    )


@pytest.mark.long
async def test_a_library_that_cannot_be_loaded_is_named(cli: Cli, unreachable_url: str) -> None:
    ended = await cli("status", settings={"DATABASE_URL": unreachable_url, "PSYCOPG_IMPL": "nonsense"})
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: a library cannot be used: ")
    assert "PSYCOPG_IMPL" in ended.stderr


@pytest.mark.parametrize(
    "error", [KeyError("hush"), RecursionError("hush"), AssertionError("hush"), GeneratorExit("hush")]
)
@pytest.mark.parametrize("level", ["info", "debug"])
def test_what_nobody_foresaw_is_told_in_a_line_without_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, level: str
) -> None:
    def fail(**_options: object) -> None:
        raise error

    monkeypatch.setattr(ending, "voucher_sync", fail)
    monkeypatch.setattr(sys, "argv", ["voucher-sync", "status", "--json"])
    monkeypatch.setenv("SYNC_LOG_LEVEL", level)
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (1, "")
    assert ("Traceback" in captured.err) is (level == "debug")
    told = captured.err.splitlines()[-1]
    assert told.startswith(f"Error: voucher-sync status ended with {type(error).__name__} in sync/cli/ending.py:")
    assert WHAT_TO_SEND in told
    assert "hush" not in captured.err
