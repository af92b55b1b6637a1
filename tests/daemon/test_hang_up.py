"""A terminal that is closed ends the daemon as a SIGTERM does, unless it was started to outlive it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from sync.demo.simulator import Operation
from tests.support.daemon import PATIENCE_S, Daemon, running
from tests.support.mirror import Mirror
from tests.support.process import environment
from tests.support.terminal import terminal

pytestmark = pytest.mark.long


@pytest.fixture
def mirror(database_url: str) -> Mirror:
    """A hotel with a voucher and some codes."""
    mirror = Mirror(database_url)
    mirror.add_codes(mirror.add_voucher(), ["A", "B", "C"])
    return mirror


async def test_the_page_in_flight_is_finished_however_often_it_is_told(mirror: Mirror, tmp_path: Path) -> None:
    """The shell of a closed terminal says so, and then the system: that is no second signal."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def on_request(operation: Operation, _body: object) -> None:
        if operation is Operation.GET_CODES:
            asked.set()
            await answer.wait()

    mirror.simulator.on_request = on_request
    async with mirror.opened(), running(mirror, tmp_path) as daemon:
        await asked.wait()
        daemon.process.send_signal(signal.SIGHUP)
        assert (await daemon.event("stopping"))["signal"] == "SIGHUP"
        daemon.process.send_signal(signal.SIGHUP)
        answer.set()
        assert await daemon.stopped() == 0
        assert daemon.logs[-1]["event"] == "stopped"
        assert (await mirror.compare()).is_equal


async def test_it_ends_cleanly_with_its_terminal(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened():
        async with (
            asyncio.timeout(PATIENCE_S),
            terminal("run", settings=mirror.environment, directory=tmp_path) as shown,
        ):
            await shown.until("pulled")
            shown.hang_up()
            ended = await shown.end()
        assert ended.code == 0


async def test_one_that_is_to_outlive_its_terminal_does(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened():
        settings = {**mirror.environment, "SYNC_PULL_INTERVAL_S": "0.2", "SYNC_DISCOVERY_INTERVAL_S": "0.5"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sync", "run", env=environment(settings), cwd=tmp_path,
            stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as `nohup` does
        )  # fmt: skip
        daemon = Daemon(process)
        try:
            await daemon.event("pulled")
            os.kill(process.pid, signal.SIGHUP)
            mirror.add_codes(mirror.add_voucher("Winter"), ["D"])
            while not (await mirror.compare()).is_equal:
                await daemon.event("pulled")
            assert await daemon.stopped(signal.SIGTERM) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
