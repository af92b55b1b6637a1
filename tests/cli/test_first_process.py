"""The first process of a container without an init: the kernel keeps from it each signal that it does not handle."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sync.cli import DIED_OF_SIGTERM
from tests.support.process import end, environment

UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
PATIENCE_S = 30
STOPS_ITSELF = """
import os, signal
assert os.getpid() == 1
os.kill(1, signal.SIGTERM)
os._exit(99)
"""
"""A module that is stopped while it is loaded, as far as that stops anything."""
TOKENS = {"MEWS_CLIENT_TOKEN": "client", "MEWS_ACCESS_TOKEN": "access", "SYNC_HTTP_BIND": ""}


def _can_have_one() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not _can_have_one(), reason="takes unshare, and the right to a PID namespace"),
]


@asynccontextmanager
async def first(command: str, settings: Mapping[str, str], directory: Path) -> AsyncIterator[Process]:
    """A command as the first process of its namespace, as seen by who started that; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *UNSHARE, sys.executable, "-m", "sync", command,
        env=environment({**TOKENS, **settings}), cwd=directory, stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def number_of_first(unshare: Process) -> int:
    """The number that the first process of the namespace has out here."""
    return int(Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children").read_text())


@pytest.mark.parametrize("command", ["run", "once", "migrate"])
@pytest.mark.parametrize("module", ["click", "sqlalchemy"])  # the first that is loaded, and one that a command needs
async def test_a_sigterm_while_it_loads_ends_it(tmp_path: Path, command: str, module: str) -> None:
    (tmp_path / f"{module}.py").write_text(STOPS_ITSELF)
    async with first(command, {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}, tmp_path) as process:
        async with asyncio.timeout(PATIENCE_S):
            ended = await end(process)
    assert (ended.code, ended.stdout, ended.stderr) == (DIED_OF_SIGTERM, "", "")


@pytest.mark.parametrize("command", ["once", "audit", "migrate"])
async def test_a_sigterm_while_it_waits_for_the_database_ends_it(tmp_path: Path, command: str) -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await over.wait()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0, family=socket.AF_INET) as silent:
        port = silent.sockets[0].getsockname()[1]
        settings = {"DATABASE_URL": f"postgresql://nobody@127.0.0.1:{port}/nothing"}
        async with first(command, settings, tmp_path) as process, asyncio.timeout(PATIENCE_S):
            await asked.wait()
            os.kill(number_of_first(process), signal.SIGTERM)
            ended = await end(process)
        over.set()
    assert "Traceback" not in ended.stderr
    assert ended.code == DIED_OF_SIGTERM
