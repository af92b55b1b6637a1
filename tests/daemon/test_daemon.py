"""The daemon's life: it starts, mirrors, outlasts what breaks around it, and stops when told to."""

import asyncio
import signal
import socket
import tempfile
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import structlog

from sync.core.internal_errors import WHAT_TO_SEND
from sync.demo.simulator import Hang, Operation
from sync.postgres.embedded import embedded_postgres
from sync.postgres.migrations import migrate
from sync.postgres.urls import full_address
from sync.service import app
from sync.service import daemon as product
from sync.service.daemon import _feed_watchdog, _told
from sync.service.running import Running
from tests.support.daemon import PATIENCE_S, Daemon, running
from tests.support.loaded import run
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror


@pytest.fixture
def mirror(database_url: str) -> Mirror:
    """A hotel with a voucher and some codes."""
    mirror = Mirror(database_url)
    mirror.add_codes(mirror.add_voucher(), ["A", "B", "C"])
    return mirror


async def mirrored(mirror: Mirror, daemon: Daemon) -> None:
    """Waits until the daemon has written everything."""
    while not (await mirror.compare()).is_equal:
        await daemon.event("pulled")


async def hanging(mirror: Mirror) -> None:
    """Lets the next reading of codes hang, and waits until it is under way."""
    asked = asyncio.Event()

    async def on_request(operation: Operation, _body: Any) -> None:
        if operation is Operation.GET_CODES:
            asked.set()

    mirror.simulator.on_request = on_request
    mirror.simulator.faults.script(Operation.GET_CODES, Hang())
    await asked.wait()


async def test_a_fault_beside_the_jobs_is_told_and_ends_nothing() -> None:
    async def beside() -> None:
        raise KeyError("hush")

    with structlog.testing.capture_logs() as logs:
        await _told("watchdog", beside())
    (line,) = logs
    assert (line["event"], line["job"]) == ("defect", "watchdog")
    assert line["error"].startswith("watchdog ended with KeyError in ")
    assert line["error"].endswith(WHAT_TO_SEND)


@pytest.mark.long
@pytest.mark.parametrize(
    ("variables", "event"),
    [
        ({"NOTIFY_SOCKET": "/missing/notify", "TZ": "UTC+2"}, "not_notified"),
        ({"NOTIFY_SOCKET": "x" * 200, "NO_PROXY": "fd00::/8"}, "not_notified"),
        ({"WATCHDOG_USEC": "no number"}, "no_watchdog"),
        ({"WATCHDOG_USEC": "0"}, "no_watchdog"),
        ({"WATCHDOG_USEC": "9" * 5000}, "no_watchdog"),
    ],
)
async def test_a_supervisor_that_is_not_there_is_told_and_it_goes_on(
    mirror: Mirror, tmp_path: Path, variables: dict[str, str], event: str
) -> None:
    async with mirror.opened(), running(mirror, tmp_path, **variables) as daemon:
        await daemon.event(event)
        await mirrored(mirror, daemon)
        assert daemon.count("defect") == 0
        assert await daemon.stopped(signal.SIGTERM) == 0


async def test_a_watchdog_that_is_not_there_is_neither_told_of_for_ever_nor_fed_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/missing/notify")
    with structlog.testing.capture_logs() as logs:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_feed_watchdog(lambda: True), timeout=0.25)
    assert {line["log_level"] for line in logs} == {"debug"}
    assert len(logs) <= 3


@pytest.mark.long
async def test_a_supervisor_that_reads_nothing_any_more_holds_up_nothing(mirror: Mirror, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(f"{directory}/notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others, suppress(BlockingIOError):
            others.setblocking(False)
            while True:
                others.sendto(b"full", f"{directory}/notify")
        systemd = {"NOTIFY_SOCKET": f"{directory}/notify", "WATCHDOG_USEC": "100000"}
        async with mirror.opened(), running(mirror, tmp_path, **systemd) as daemon:
            await mirrored(mirror, daemon)
            assert await daemon.stopped(signal.SIGTERM) == 0


async def test_the_watchdog_is_fed_only_while_jobs_are_begun(monkeypatch: pytest.MonkeyPatch, mirror: Mirror) -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(f"{directory}/notify")
        supervisor.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", f"{directory}/notify")
        monkeypatch.setenv("WATCHDOG_USEC", "1")
        async with mirror.opened():
            jobs = app.make_jobs(mirror.connection, mirror.settings())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_feed_watchdog(lambda: jobs.is_moving(within_s=-1)), timeout=0.25)
            with pytest.raises(BlockingIOError):
                supervisor.recv(100)
            await jobs.wake_outbox()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(_feed_watchdog(lambda: jobs.is_moving(within_s=60)), timeout=0.25)
            assert supervisor.recv(100) == b"WATCHDOG=1"


async def test_another_process_watchdog_is_not_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    await asyncio.wait_for(_feed_watchdog(lambda: True), timeout=10)  # fed, it would never end


@pytest.mark.long
async def test_it_mirrors_what_is_there_and_what_comes(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened(), running(mirror, tmp_path) as daemon:
        await mirrored(mirror, daemon)
        mirror.world.add_codes(mirror.add_voucher("Winter").id, ["D", "E"])
        await mirrored(mirror, daemon)
        assert mirror.simulator.violations == []
        assert await daemon.stopped(signal.SIGTERM) == 0


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it(mirror: Mirror, tmp_path: Path, number: signal.Signals) -> None:
    async with mirror.opened(), running(mirror, tmp_path) as daemon:
        await daemon.event("started")
        assert await daemon.stopped(number) == 0
        assert daemon.logs[-1]["event"] == "stopped"


@pytest.mark.long
async def test_the_page_in_flight_is_finished(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened():
        answer, asked = asyncio.Event(), asyncio.Event()

        async def on_request(operation: Operation, _body: Any) -> None:
            if operation is Operation.GET_CODES:
                asked.set()
                await answer.wait()

        mirror.simulator.on_request = on_request
        async with running(mirror, tmp_path) as daemon:
            await asked.wait()
            daemon.process.send_signal(signal.SIGTERM)
            await daemon.event("stopping")
            answer.set()
            assert await daemon.stopped() == 0
        assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_it_does_not_wait_for_an_answer_that_never_comes(mirror: Mirror, tmp_path: Path) -> None:
    # After a tenth of this it is asked once more, which a daemon that stops refuses to itself: nothing hangs any more.
    async with mirror.opened(), running(mirror, tmp_path, SYNC_REQUEST_TIMEOUT_S="600") as daemon:
        await hanging(mirror)
        assert await daemon.stopped(signal.SIGTERM) == 0
        assert daemon.count("stopping_in_the_middle") == 1


@pytest.mark.long
async def test_a_second_signal_ends_it_at_once(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened(), running(mirror, tmp_path) as daemon:
        await hanging(mirror)
        assert await daemon.stopped(signal.SIGINT, signal.SIGTERM) == 130
        assert daemon.count("stopping_in_the_middle") == 0


@pytest.mark.long
async def test_an_outage_of_the_api_is_told_once_and_outlasted(mirror: Mirror, tmp_path: Path) -> None:
    async with AsyncExitStack() as uptime:
        await uptime.enter_async_context(mirror.served())
        async with mirror.connected(), running(mirror, tmp_path) as daemon:
            await mirrored(mirror, daemon)
            await uptime.aclose()
            assert "cannot be reached" in (await daemon.event("failing"))["error"]
            mirror.world.add_codes(next(iter(mirror.world.vouchers)), ["D"])
            async with mirror.served(port=mirror.port):
                await daemon.event("recovered")
                await mirrored(mirror, daemon)
                assert await daemon.stopped(signal.SIGTERM) == 0
            assert (daemon.count("failing"), daemon.count("recovered")) == (1, 1)


@pytest.mark.long
async def test_it_starts_before_the_api_does(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.served():
        port = mirror.port
    async with running(mirror, tmp_path) as daemon:
        await daemon.event("failing")
        async with mirror.served(port=port), mirror.connected():
            await daemon.event("recovered")
            await mirrored(mirror, daemon)


@pytest.mark.long
async def test_it_outlasts_a_restart_of_the_database(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name, embedded_postgres(Path(name)) as url:
        migrate(url)
        mirror = Mirror(url)
        voucher = mirror.add_voucher()
        mirror.add_codes(voucher, ["OLD"])
        async with mirror.opened(), running(mirror, tmp_path) as daemon:
            await mirrored(mirror, daemon)
            server = psutil.Process(int((Path(name) / "data/postmaster.pid").read_text().partition("\n")[0]))
            server.send_signal(signal.SIGINT)
            await daemon.event("failing")
            await asyncio.to_thread(server.wait)
            mirror.add_codes(voucher, ["A", "B"], days_old=0)
            with embedded_postgres(Path(name)):
                await daemon.event("recovered")
                await mirrored(mirror, daemon)
                assert await daemon.stopped(signal.SIGTERM) == 0
                assert (daemon.count("failing"), daemon.count("recovered")) == (1, 1)


@pytest.mark.long
async def test_it_waits_for_the_migration(empty_database_url: str, tmp_path: Path) -> None:
    mirror = Mirror(empty_database_url)
    async with mirror.opened(), running(mirror, tmp_path) as daemon:
        assert "voucher-sync migrate" in (await daemon.event("failing"))["error"]
        ended = await run("migrate", settings=mirror.environment, directory=tmp_path)
        assert ended.code == 0, ended.stderr
        await daemon.event("recovered")
        await mirrored(mirror, daemon)


@pytest.mark.long
async def test_systemd_is_told_how_it_goes(mirror: Mirror, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(f"{directory}/notify")
        supervisor.settimeout(PATIENCE_S)
        systemd = {"NOTIFY_SOCKET": f"{directory}/notify", "WATCHDOG_USEC": "100000"}
        async with mirror.opened(), running(mirror, tmp_path, **systemd) as daemon:
            told = [await asyncio.to_thread(supervisor.recv, 100) for _ in range(3)]
            assert told == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            assert await daemon.stopped(signal.SIGTERM) == 0
        while told[-1] == b"WATCHDOG=1":
            told.append(supervisor.recv(100))
        assert told[-1] == b"STOPPING=1"


@pytest.mark.long
async def test_no_token_is_logged(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened(), running(mirror, tmp_path) as daemon:
        await mirrored(mirror, daemon)
        mirror.world.permit(ACCESS_TOKEN, set())
        await daemon.event("failing")
        await daemon.stopped(signal.SIGTERM)
    logs = str(daemon.logs)
    assert CLIENT_TOKEN not in logs
    assert ACCESS_TOKEN not in logs


async def test_what_runs_beside_knows_which_database_it_is_of(mirror: Mirror) -> None:
    seen = []

    def beside(running: Running) -> dict[str, Any]:
        seen.append(running.database)
        running.stop.set()
        return {}

    async with mirror.served(), asyncio.timeout(PATIENCE_S):
        await product.run(mirror.settings(), mirror.database_url, beside=beside)
    assert seen == [full_address(mirror.database_url)]
