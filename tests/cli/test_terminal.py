"""What a terminal shows of long work, in which colours, and what a shell completes."""

import asyncio
import re
import shutil
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.cli.conftest import SHOWN_SOON, Cli
from tests.cli.outbox.helpers import without_colours, write
from tests.support.mirror import Mirror
from tests.support.process import environment, run_on_terminal

COLOUR = re.compile(r"\x1b\[[0-9;]*(?:3[0-8]|9[0-7])(?:;|m)")
PROGRAM = Path(sys.executable).with_name("voucher-sync")
BASH = """
source <("$1" completion bash)
COMP_WORDS=("${@:2}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_voucher_sync_completion "$1"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.long
async def test_long_work_tells_codes_calls_and_what_is_left(cli: Cli, mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened():
        on_terminal = mirror.environment | SHOWN_SOON | {"COLUMNS": "66", "NO_COLOR": "1"}
        pulled = without_colours((await run_on_terminal("once", settings=on_terminal, directory=tmp_path)).stdout)
        assert re.search(r"Pulling .*(\d+)/\1 windows +3 codes, [\d.]+/s +\d+ calls, [\d.]+/s ", pulled)
        for value in ("X", "Y"):
            assert (await cli("outbox", "add", "--voucher", "Summer", value, settings=mirror.environment)).code == 0
        replaced = await cli("outbox", "replace", "--voucher", "Summer", "A", "AA", settings=mirror.environment)
        assert replaced.code == 0
        pushed = without_colours((await run_on_terminal("once", settings=on_terminal, directory=tmp_path)).stdout)
        assert re.search(r"Pushing .*4/4 changes +\d+ calls, [\d.]+/s ", pulled + pushed)
        audited = without_colours((await run_on_terminal("audit", settings=on_terminal, directory=tmp_path)).stdout)
        assert re.search(r"Comparing .*1/1 vouchers +\d+ codes, [\d.]+/s +\d+ calls, [\d.]+/s ", audited)
        write(tmp_path / "codes.csv", "value\nNEW-1")
        call = ("outbox", "import", "codes.csv", "--voucher", "Summer", "--unique", "portfolio")
        imported = without_colours((await run_on_terminal(*call, settings=on_terminal, directory=tmp_path)).stdout)
        assert re.search(r"Asking the API .*1/1 lines +\d+ calls, [\d.]+/s ", imported)


@pytest.mark.long
@pytest.mark.parametrize(("no_color", "has_colours"), [("1", False), ("", True)])
async def test_no_color_turns_colours_off(mirror: Mirror, tmp_path: Path, no_color: str, has_colours: bool) -> None:
    async with mirror.opened():
        settings = mirror.environment | {"NO_COLOR": no_color, "TERM": "xterm-256color"}
        shown = await run_on_terminal("once", settings=settings, directory=tmp_path)
    assert (shown.code, bool(COLOUR.search(shown.stdout))) == (0, has_colours)


needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
"""Without one, nobody knows its version, which what is printed for it depends on."""


@pytest.mark.sampled
@pytest.mark.parametrize("shell", [pytest.param("bash", marks=needs_bash), "zsh", "fish"])
async def test_what_completes_is_printed_for_each_shell(cli: Cli, shell: str) -> None:
    printed = await cli("completion", shell, settings={})
    assert (printed.code, printed.stderr) == (0, "")
    assert f"_VOUCHER_SYNC_COMPLETE={shell}_complete" in printed.stdout


@pytest.mark.sampled
@needs_bash
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["outbox", "re"], ["reasons", "release", "replace", "retry"]),
        (["once", "--acc"], ["--accept-enterprises"]),
        (["outbox", "list", "--status", "un"], ["uncertain"]),
    ],
    ids=" ".join,
)
async def test_bash_completes_commands_options_and_choices(
    tmp_path: Path, words: list[str], completed: list[str]
) -> None:
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", BASH, "bash", str(PROGRAM), "voucher-sync", *words,
        env=environment({}), cwd=tmp_path, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    stdout, stderr = await process.communicate()
    assert stderr.decode() == ""
    assert sorted(stdout.decode().split()) == completed
