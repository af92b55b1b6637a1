"""`voucher-sync demo`, as whoever tries it for the first time sees it."""

import asyncio
import os
import re
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from sync.demo.show import PAGE_PORT
from tests.support.process import start

PATIENCE_S = 100
"""How long a test waits for a line."""
VERDICT = re.compile(r"Mirror and simulator compared row by row: [\d,]+ rows, all equal\.")


class Demo:
    """A running demo; `said` are the lines read so far."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def line(self, pattern: str) -> re.Match[str]:
        """The next line that this is found in."""
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._lines():
                if match := re.search(pattern, line):
                    return match
        raise AssertionError(f"the demo ended without {pattern!r}: {self.said}")

    async def ended(self) -> int:
        """The exit code, after its last line."""
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self._lines():
                pass
            return await self.process.wait()

    async def _lines(self) -> AsyncIterator[str]:
        assert self.process.stdout is not None
        async for raw in self.process.stdout:
            self.said.append(raw.decode().rstrip())
            yield self.said[-1]


@asynccontextmanager
async def running(*arguments: str, directory: Path) -> AsyncIterator[Demo]:
    """The demo; afterwards nothing of it may be left: no process, no directory, nothing in the user's data."""
    users_data = directory / "data"
    process = await start("demo", *arguments, settings={"XDG_DATA_HOME": str(users_data)}, directory=directory)
    demo = Demo(process)
    own: list[psutil.Process] = []
    try:
        stage = Path((await demo.line(r"Starting PostgreSQL in (\S+) \.\.\.")).group(1))
        await demo.line(r"the daemon runs as process \d+")
        own = psutil.Process(process.pid).children(recursive=True)
        own.append(psutil.Process(int((stage / "data/postmaster.pid").read_text().partition("\n")[0])))
        yield demo
        assert process.returncode is not None
        assert not [one for one in own if is_alive(one)]
        assert not list(stage.parent.glob(stage.name))
        assert not users_data.exists()
    finally:
        if process.returncode is None:
            # Only a test that failed comes here; what it leaves running would outlive it.
            for one in [*psutil.Process(process.pid).children(recursive=True), *own]:
                with suppress(psutil.NoSuchProcess):
                    one.kill()
            process.kill()
        await process.communicate()


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still does something; whose parent has gone may wait for its burial by init."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_it_ends_by_itself_with_the_mirror_equal(tmp_path: Path) -> None:
    async with running("--seconds", "4", directory=tmp_path) as demo:
        assert await demo.ended() == 0
        assert VERDICT.fullmatch(demo.said[-1])
        changes = [int(n) for n in re.findall(r"(\d+) changes? by the hotels' people", "\n".join(demo.said))]
        assert changes
        assert changes[-1] > 0
        queued, made = re.findall(r"outbox -> API: ([\d,]+) changes? queued here, ([\d,]+) made", "\n".join(demo.said))[
            -1
        ]
        assert queued == made


@pytest.mark.long
async def test_it_says_where_its_status_page_is_where_something_else_has_its_port(tmp_path: Path) -> None:
    with socket.socket() as taken:
        with suppress(OSError):  # somebody may have it already
            taken.bind(("127.0.0.1", PAGE_PORT))
            taken.listen()
        async with running(directory=tmp_path) as demo:
            told = next(line for line in demo.said if "See how it is doing" in line)
            address, _, elsewhere = told.removeprefix("See how it is doing: ").partition("  ")
            assert elsewhere == f"(at its usual port, {PAGE_PORT}, something else listens)"
            await demo.line(r"API -> mirror: [1-9]")
            async with httpx.AsyncClient(trust_env=False) as browser:
                answer = await browser.get(address)
            demo.process.send_signal(signal.SIGINT)
            assert await demo.ended() == 0
    assert answer.status_code == 200
    assert "<h1" in answer.text


@pytest.mark.long
async def test_killed_daemons_are_started_again_and_ctrl_c_ends_it_with_the_mirror_equal(tmp_path: Path) -> None:
    async with running(directory=tmp_path) as demo:
        first = int(re.findall(r"the daemon runs as process (\d+)", "\n".join(demo.said))[0])
        os.kill(first, signal.SIGKILL)
        await demo.line("the daemon was ended by SIGKILL; starting it again")
        second = int((await demo.line(r"the daemon runs as process (\d+)")).group(1))
        await demo.line("API -> mirror: ")
        os.kill(second, signal.SIGKILL)
        third = int((await demo.line(r"the daemon runs as process (\d+)")).group(1))
        assert len({first, second, third}) == 3
        demo.process.send_signal(signal.SIGINT)
        assert await demo.ended() == 0
        assert VERDICT.fullmatch(demo.said[-1])


@pytest.mark.long
async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with running(directory=tmp_path) as demo:
        demo.process.send_signal(signal.SIGINT)
        await demo.line("nobody changes anything now")
        demo.process.send_signal(signal.SIGINT)
        assert await demo.ended() == 130


@pytest.mark.long
async def test_with_its_terminal_ends_all_that_it_has_started(tmp_path: Path) -> None:
    async with running(directory=tmp_path) as demo:
        demo.process.send_signal(signal.SIGHUP)
        assert await demo.ended() == 0
