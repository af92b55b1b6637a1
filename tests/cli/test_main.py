"""The command line as a whole: its help, its exit codes, and wrong settings, whichever the command."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sync.service.app import OR_KEY
from tests.support.mirror import CLIENT_TOKEN

from .conftest import Cli

COMMANDS = ("run", "once", "migrate", "check", "status", "outbox", "demo")
WITH_SETTINGS = ("run", "once", "migrate", "check", "status")
TOKENS = {"MEWS_CLIENT_TOKEN": CLIENT_TOKEN, "MEWS_ACCESS_TOKEN": "an-access-token"}


@pytest.mark.long
async def test_help_lists_every_command(cli: Cli) -> None:
    ended = await cli("--help", settings={})
    assert ended.code == 0
    assert not [command for command in COMMANDS if f"\n  {command} " not in ended.stdout]


@pytest.mark.sampled
@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    ended = await cli(command, "--help", settings={"SYNC_LEASE_S": "wrong, but of no importance for this"})
    assert (ended.code, ended.stderr) == (0, "")
    assert ended.stdout.startswith("Usage: ")
    assert f"{command} [OPTIONS]" in ended.stdout


@pytest.mark.long
async def test_the_version(cli: Cli) -> None:
    ended = await cli("--version", settings={})
    assert ended.code == 0
    assert version("voucher-sync") in ended.stdout


def test_no_command_may_leave_its_memory_in_a_core_dump() -> None:
    code = (
        "import resource, sys\n"
        "from sync.cli import main\n"
        "most = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (most, most))\n"
        "sys.argv = ['voucher-sync', '--version']\n"
        "try: main()\n"
        "except SystemExit: print(resource.getrlimit(resource.RLIMIT_CORE)[0])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0"


def test_a_stop_reaches_a_command_whose_parent_has_blocked_it() -> None:
    code = (
        "import signal, sys\n"
        "from sync.cli import main\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})\n"
        "sys.argv = ['voucher-sync', '--version']\n"
        "try: main()\n"
        "except SystemExit: print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mirror"], "No such command 'mirror'"),
        (["status", "--yaml"], "No such option '--yaml'"),
        (["demo", "--seconds", "soon"], "without any it goes on until Ctrl-C"),
        (["demo", "--seconds", "nan"], "without any it goes on until Ctrl-C"),
        (["demo", "--seconds", "inf"], "without any it goes on until Ctrl-C"),
        (["demo", "--seconds", "1e400"], "without any it goes on until Ctrl-C"),
        (["outbox", "list", "--limit", "1e3"], "Invalid value for '--limit'"),
    ],
    ids=" ".join,
)
async def test_a_call_that_is_wrong(cli: Cli, arguments: list[str], words: str) -> None:
    ended = await cli(*arguments, settings={})
    assert (ended.code, ended.stdout) == (2, "")
    assert words in ended.stderr
    assert "--help" in ended.stderr


@pytest.mark.parametrize("command", WITH_SETTINGS)
async def test_wrong_settings_have_one_line_each(cli: Cli, unreachable_url: str, command: str) -> None:
    wrong = {"SYNC_PULL_INTERVAL_S": "0", "MEWS_PLATFORM_ADDRESS": "http://api.mews.com", "MEWS_ACCESS_TOKEN": ""}
    settings = {"DATABASE_URL": unreachable_url, "MEWS_CLIENT_TOKEN": CLIENT_TOKEN, **wrong}
    ended = await cli(command, settings=settings)
    assert (ended.code, ended.stdout) == (2, "")
    lines = ended.stderr.removeprefix("Error: ").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "MEWS_PLATFORM_ADDRESS",
        "MEWS_ACCESS_TOKEN",
        "SYNC_PULL_INTERVAL_S",
    ]


@pytest.mark.parametrize("command", ["status", "connections remove default", "connections reencrypt"])
async def test_a_misspelt_setting_is_told_at_once_and_once(cli: Cli, unreachable_url: str, command: str) -> None:
    ended = await cli(*command.split(), settings={"DATABASE_URL": unreachable_url, "SYNC_LEASE": "60"})
    first, second = ended.stderr.splitlines()
    assert first.startswith(
        "Warning: SYNC_LEASE, in the environment, is no setting of this service and is ignored: is SYNC_LEASE_S meant?"
    )
    assert second.startswith("Error: the database does not answer")


async def test_an_env_file_of_others_is_told_and_passed_over(cli: Cli, unreachable_url: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SYNC_LEASE_S=nonsense\n")
    (tmp_path / ".env").chmod(0o666)
    ended = await cli("status", settings={"DATABASE_URL": unreachable_url})
    assert ended.stderr.startswith("Warning: .env is not read: others may write it")
    assert "SYNC_LEASE_S" not in ended.stderr


@pytest.mark.parametrize("command", ["run", "status"])
async def test_a_database_url_that_nobody_can_read(cli: Cli, command: str) -> None:
    ended = await cli(command, settings={"DATABASE_URL": "the-password@somewhere", **TOKENS})
    assert ended.code == 2
    assert ended.stderr.splitlines()[-1].startswith("Error: DATABASE_URL cannot be read: give it as postgresql://")


@pytest.mark.parametrize(("command", "missing"), [("run", "MEWS_CLIENT_TOKEN"), ("once", "MEWS_ACCESS_TOKEN")])
async def test_without_a_token_nothing_starts(cli: Cli, unreachable_url: str, command: str, missing: str) -> None:
    settings = {"DATABASE_URL": unreachable_url, **{name: value for name, value in TOKENS.items() if name != missing}}
    ended = await cli(command, settings=settings)
    assert (ended.code, ended.stdout) == (2, "")
    told = f"Error: {missing} is not set: set it, or {missing}_FILE, to the token that Mews issued"
    if missing == "MEWS_ACCESS_TOKEN":
        told += OR_KEY
    assert ended.stderr == f"{told}\n"


async def test_settings_may_come_from_an_env_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SYNC_LEASE_S=long\n")
    ended = await cli("status", settings={})
    assert (ended.code, ended.stderr.partition(":")[0]) == (2, "Error")
    assert "SYNC_LEASE_S" in ended.stderr
