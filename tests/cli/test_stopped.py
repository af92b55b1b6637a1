"""What a signal does to a command that is in the middle of its work."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from sync.demo.simulator import Operation
from tests.support.loaded import start
from tests.support.mirror import Mirror
from tests.support.process import end, run

pytestmark = pytest.mark.long


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1)])
async def test_what_is_read_is_not_waited_for(
    mirror: Mirror, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    asked, answer = hold(mirror, Operation.GET_CODES)
    async with mirror.opened():
        process = await start("once", settings=mirror.environment, directory=tmp_path)
        await asked.wait()
        process.send_signal(number)
        async with asyncio.timeout(30):
            ended = await end(process)
        answer.set()
    assert ended.code == code, ended
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(("signals", "code"), [(1, 1), (2, 130)])
async def test_a_write_that_is_never_answered_is_waited_for_no_longer_than_ten_seconds_or_to_the_second_signal(
    mirror: Mirror, tmp_path: Path, signals: int, code: int
) -> None:
    asked, answer = hold(mirror, Operation.ADD_CODES)
    voucher = mirror.add_voucher()
    async with mirror.opened():
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, 'NEW')",
            voucher=voucher.id,
        )
        settings = mirror.environment | {"SYNC_LOG_LEVEL": "info"}
        process = await start("once", settings=settings, directory=tmp_path)
        await asked.wait()
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        while b"stopping" not in await process.stderr.readline():
            pass
        for _ in range(signals - 1):
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            ended = await end(process)
        answer.set()
    assert (ended.code, "Traceback" in ended.stderr) == (code, False), ended
    assert ("still_stopping" in ended.stderr) is (signals == 1)


@pytest.mark.parametrize("module", ["click", "sqlalchemy"])  # the first that is loaded, and one that a command needs
async def test_a_ctrl_c_while_it_loads_ends_it_without_a_traceback(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    ended = await run("migrate", settings={"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/no"}, directory=tmp_path)
    assert (ended.code, ended.stdout, ended.stderr.strip()) == (130, "", "")


def hold(mirror: Mirror, held: Operation) -> tuple[asyncio.Event, asyncio.Event]:
    """What is set once the API is asked for an operation, and what has it answer."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def on_request(operation: Operation, _body: Any) -> None:
        if operation is held:
            asked.set()
            await answer.wait()

    mirror.simulator.on_request = on_request
    return asked, answer
