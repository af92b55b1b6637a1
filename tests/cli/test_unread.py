"""A reader that has seen enough, as `head`, ends nothing but what goes on for it alone, and is no fault."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.mirror import Mirror
from tests.support.process import Ended, environment

from .conftest import Cli

QUIET = {"SYNC_LOG_LEVEL": "warning"}
UNREAD = 141
ROWS = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
SELECT 'add', :voucher, 'CODE-' || number FROM generate_series(1, 5000) AS number
"""
"""More than a pipe and all buffers before it hold, once they are written."""


async def unread(*arguments: str, settings: Mapping[str, str], directory: Path, both: bool = False) -> Ended:
    """Runs a command whose standard output, or both outputs, nobody has read from the beginning on."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sync", *arguments, env=environment(settings), cwd=directory,
            stdin=asyncio.subprocess.DEVNULL, stdout=writer,
            stderr=writer if both else asyncio.subprocess.PIPE,
        )  # fmt: skip
    finally:
        os.close(writer)
    _, stderr = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, "", (stderr or b"").decode())


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["completion", "bash"], ["outbox", "-h"]], ids=" ".join)
async def test_what_is_told_to_nobody_is_no_fault(tmp_path: Path, words: list[str], unbuffered: str) -> None:
    ended = await unread(*words, settings={"PYTHONUNBUFFERED": unbuffered}, directory=tmp_path)
    assert (ended.code, ended.stderr) == (0, "")


@pytest.mark.long
async def test_a_question_ends_as_it_would_with_a_reader(cli: Cli, mirror: Mirror, tmp_path: Path) -> None:
    questions = ("vouchers", "vouchers --json", "outbox list", "outbox reasons", "status --json", "outbox show 1")
    async with mirror.served():
        settings = mirror.environment | QUIET
        assert (await cli("once", settings=settings)).code == 0
        await cli("outbox", "delete", "--voucher", str(uuid4()), "A", settings=settings)
        for words in questions:
            ended = await unread(*words.split(), settings=settings, directory=tmp_path)
            assert (words, ended.code, ended.stderr) == (words, 0, "")


@pytest.mark.long
async def test_a_check_tells_by_its_code_what_it_found(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.served():
        well = await unread("check", settings=mirror.environment, directory=tmp_path)
        wrong = await unread("check", settings=mirror.environment | {"MEWS_ACCESS_TOKEN": "x"}, directory=tmp_path)
    assert [(one.code, one.stderr) for one in (well, wrong)] == [(0, ""), (1, "")]


@pytest.mark.long
async def test_work_is_done_and_its_code_is_the_work_s(mirror: Mirror, tmp_path: Path) -> None:
    codes = tmp_path / "codes.csv"
    codes.write_text("value\nNEW-1\nNEW-2\n", encoding="utf-8")
    (voucher,) = mirror.world.vouchers
    async with mirror.opened():
        settings = mirror.environment | QUIET
        first = await unread("once", settings=settings, directory=tmp_path, both=True)
        queued = await unread(
            "outbox", "import", str(codes), "--voucher", str(voucher), settings=settings, directory=tmp_path
        )
        second = await unread("once", "--json", settings=settings, directory=tmp_path)
        await mirror.execute("DELETE FROM mews.voucher_codes WHERE value = 'A'")
        drifted = await unread("audit", settings=settings, directory=tmp_path)
        repaired = await unread("audit", "--repair", settings=settings, directory=tmp_path)
        audited = await unread("audit", settings=settings, directory=tmp_path)
    assert [one.code for one in (first, queued, second, drifted, repaired, audited)] == [0, 0, 0, 1, 0, 0]
    assert {code.value for code in mirror.world.codes.truth.values()} >= {"NEW-1", "NEW-2"}


@pytest.mark.long
async def test_what_only_writes_ends_where_its_reader_does(cli: Cli, mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened():
        settings = mirror.environment | QUIET
        assert (await cli("once", settings=settings)).code == 0
        (voucher,) = mirror.world.vouchers
        await mirror.execute(ROWS, voucher=voucher)
        exported = await unread("outbox", "export", "--status", "pending", settings=settings, directory=tmp_path)
        watched = await unread("status", "--watch", settings=settings, directory=tmp_path)
    assert (exported.code, exported.stderr) == (UNREAD, "")
    assert (watched.code, watched.stderr) == (0, "")


@pytest.mark.long
async def test_a_demo_ends_as_after_an_interruption(tmp_path: Path) -> None:
    async with asyncio.timeout(100):
        ended = await unread("demo", settings={"XDG_DATA_HOME": str(tmp_path)}, directory=tmp_path)
    assert (ended.code, "Traceback" in ended.stderr) == (0, False)
