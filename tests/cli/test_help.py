"""Help is there at once: nothing is imported for it that only the work needs."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sync.cli.commands import voucher_sync
from tests.support.process import end

IMPORTED_BY_HELP = """
import json, sys
from sync.cli import main
sys.argv = ["voucher-sync", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as ended:
    print(json.dumps([ended.code, sorted({name.partition(".")[0] for name, one in sys.modules.items()
                                        if getattr(one, "__spec__", None)})]))
"""
CUT_OFF = re.compile(r"  \S.*\.\.\.")
HEAVY = {
    "aiohttp",
    "alembic",
    "apscheduler",
    "asyncio",
    "httpx",
    "jinja2",
    "msgspec",
    "prometheus_client",
    "psutil",
    "psycopg",
    "pydantic",
    "rich",
    "sqlalchemy",
    "structlog",
}
"""Together they take most of a second."""


@pytest.mark.parametrize(
    "words",
    [["--help"], ["once", "-h"], ["check", "--help"], ["outbox", "--help"], ["outbox", "import", "--help"], ["onec"]],
    ids=" ".join,
)
async def test_help_waits_for_no_library(words: list[str], tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", IMPORTED_BY_HELP, json.dumps(words),
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    ended = await end(process)
    code, imported = json.loads(ended.stdout.splitlines()[-1])
    assert code == (2 if words == ["onec"] else 0)
    assert "click" in imported
    assert HEAVY.isdisjoint(imported)


def helps(width: int, command: click.Command, *path: str) -> Iterator[tuple[str, str]]:
    """The words of each command, and its help as a terminal that wide shows it."""
    context = click.Context(command, info_name=" ".join(path), terminal_width=width, max_content_width=100)
    yield " ".join(path), command.get_help(context)
    if isinstance(command, click.Group):
        for name, one in command.commands.items():
            yield from helps(width, one, *path, name)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_command_s_summary_is_cut_off(width: int) -> None:
    shown = dict(helps(width, voucher_sync, "voucher-sync"))
    assert len(shown) > 30
    cut = {words: [line for line in told.splitlines() if CUT_OFF.fullmatch(line)] for words, told in shown.items()}
    assert {words: lines for words, lines in cut.items() if lines} == {}


def test_each_summary_is_one_line_on_80_columns() -> None:
    groups = [told.partition("Commands:\n")[2] for _, told in helps(80, voucher_sync, "voucher-sync")]
    lines = [line for told in groups for line in told.splitlines()]
    assert len(lines) > 30
    assert [line for line in lines if not re.fullmatch(r"  [a-z].*\.", line)] == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("once", "What waits in the outbox is sent: codes are added to the hotel and deleted there"),
        ("run", "What waits in the outbox is sent: codes are added to the hotel and deleted there"),
    ],
)
def test_help_says_what_a_command_changes_at_the_hotel(command: str, words: str) -> None:
    shown = " ".join(dict(helps(80, voucher_sync, "voucher-sync"))[f"voucher-sync {command}"].split())
    assert words in shown
