"""The daemon and its outbox: woken by NOTIFY, told by status, and stopped with nothing half done."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection
from sqlalchemy import text

from sync.demo.simulator import Close, Operation, Voucher
from sync.postgres.urls import libpq_url
from tests.support.daemon import Daemon, running
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.pooler import QUICK_LOOKS
from tests.support.proxy import Proxy

SOON = {"SYNC_PUSH_POLL_S": "0.2", "SYNC_SETTLE_AFTER_S": "0.2"}
NO_POLL = {"SYNC_PUSH_POLL_S": "3600", "SYNC_PULL_INTERVAL_S": "3600", "SYNC_DISCOVERY_INTERVAL_S": "3600"}
"""What is pushed then, a notification has brought about."""

ADD = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, :value)"


@pytest.fixture
def mirror(database_url: str) -> Mirror:
    """A hotel with a voucher."""
    mirror = Mirror(database_url)
    mirror.add_voucher()
    return mirror


def voucher_of(mirror: Mirror) -> Voucher:
    """Its only voucher."""
    (voucher,) = mirror.world.vouchers.values()
    return voucher


async def queue(mirror: Mirror, value: str) -> None:
    """Queues an add."""
    await mirror.execute(ADD, voucher=voucher_of(mirror).id, value=value)


async def statuses(mirror: Mirror) -> list[str]:
    """Of all rows."""
    rows = await mirror.rows("SELECT status FROM mews.voucher_code_outbox ORDER BY id")
    return [row["status"] for row in rows]


@asynccontextmanager
async def ready(mirror: Mirror, directory: Path, **settings: str) -> AsyncIterator[Daemon]:
    """A daemon that knows the voucher and listens, as far as anybody hears anything behind a pooler."""
    async with running(mirror, directory, **(NO_POLL | QUICK_LOOKS | settings)) as daemon:
        await daemon.event("pulled")
        while mirror.way == mirror.database_url and not await listeners(mirror):
            await mirror.rows("SELECT 1")
        yield daemon


async def listeners(mirror: Mirror) -> list[int]:
    """The sessions that listen."""
    rows = await mirror.rows(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' "
        "AND state = 'idle' AND pid <> pg_backend_pid()"
    )
    return [row["pid"] for row in rows]


async def done(mirror: Mirror, *, rows: int) -> None:
    """Waits until so many rows are done; the test's own time-out ends a vain wait."""
    while (await statuses(mirror)).count("done") < rows:
        await mirror.rows("SELECT pg_sleep(0.01)")


async def test_the_poll_finds_what_no_look_could(mirror: Mirror, tmp_path: Path) -> None:
    """As of a transaction that was open for an hour."""
    as_of_an_hour_ago = """
        WITH daemon AS MATERIALIZED (SELECT set_config('voucher_sync.daemon', 'on', true))
        UPDATE mews.voucher_code_outbox SET next_attempt_at = now() - interval '1 hour' FROM daemon
    """
    async with mirror.opened(), ready(mirror, tmp_path, SYNC_PUSH_POLL_S="0.2"):
        await queue(mirror, "FIRST")
        await done(mirror, rows=1)
        async with mirror.connection.engine.begin() as session:
            insert = (
                "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, 'LATE')"
            )
            await session.execute(text(insert), {"voucher": voucher_of(mirror).id})
            await session.execute(text(f"{as_of_an_hour_ago} WHERE value = 'LATE'"))
        await done(mirror, rows=2)


@pytest.mark.long
@pytest.mark.direct
async def test_a_notification_wakes_it(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened(), ready(mirror, tmp_path):
        for number in range(3):
            await queue(mirror, f"A-{number}")
            await done(mirror, rows=number + 1)
        assert len(mirror.world.codes.truth) == 3


@pytest.mark.long
@pytest.mark.direct
async def test_a_listener_that_is_lost_is_replaced(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened(), ready(mirror, tmp_path):
        (lost,) = await listeners(mirror)
        async with await AsyncConnection.connect(libpq_url(mirror.database_url), autocommit=True) as admin:
            await admin.execute("SELECT pg_terminate_backend(%s)", [lost])
        await queue(mirror, "A")
        await done(mirror, rows=1)


@pytest.mark.long
async def test_the_poll_finds_what_no_notification_told(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened(), ready(mirror, tmp_path, SYNC_PUSH_POLL_S="0.2"):
        await mirror.execute("ALTER TABLE mews.voucher_code_outbox DISABLE TRIGGER wake")
        await queue(mirror, "A")
        await done(mirror, rows=1)


@pytest.mark.long
async def test_the_poll_finds_what_was_told_to_a_session_whose_line_fell_silent(mirror: Mirror, tmp_path: Path) -> None:
    async with Proxy(mirror.way).served() as proxy, mirror.opened():
        proxy.silence_after(b"LISTEN")
        async with ready(mirror, tmp_path, DATABASE_URL=proxy.url, SYNC_PUSH_POLL_S="0.2"):
            await queue(mirror, "A")
            await done(mirror, rows=1)
            if mirror.way == mirror.database_url:
                await proxy.swallowed.wait()


@pytest.mark.long
async def test_a_change_for_a_voucher_that_is_new_brings_a_discovery_about(mirror: Mirror, tmp_path: Path) -> None:
    async with mirror.opened(), ready(mirror, tmp_path):
        voucher = mirror.add_voucher("New")
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, 'A')",
            voucher=voucher.id,
        )
        await done(mirror, rows=1)
        assert [code.voucher_id for code in mirror.world.codes.truth.values()] == [voucher.id]


@pytest.mark.long
async def test_a_token_that_may_not_write_shows_as_failing_and_keeps_the_rows(mirror: Mirror, tmp_path: Path) -> None:
    mirror.world.permit(ACCESS_TOKEN, set(Operation) - {Operation.ADD_CODES})
    async with mirror.opened(), ready(mirror, tmp_path) as daemon:
        await queue(mirror, "A")
        assert "not authorised" in (await daemon.event("failing"))["error"]
        while await statuses(mirror) != ["pending"]:  # it may be tried again just now
            assert daemon.process.returncode is None
        while not await mirror.rows("SELECT FROM sync.connections WHERE state = 'failing'"):
            assert daemon.process.returncode is None


@pytest.mark.long
async def test_a_stop_waits_for_the_write_in_flight(mirror: Mirror, tmp_path: Path) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def on_request(operation: Operation, _body: Any) -> None:
        if operation is Operation.ADD_CODES:
            asked.set()
            await answer.wait()

    async with mirror.opened(), ready(mirror, tmp_path) as daemon:
        mirror.simulator.on_request = on_request
        await queue(mirror, "A")
        await asked.wait()
        daemon.process.send_signal(signal.SIGTERM)
        await daemon.event("stopping")
        answer.set()
        await daemon.event("stopped")
        assert await daemon.process.wait() == 0
        assert await statuses(mirror) == ["done"]


@pytest.mark.long
async def test_no_value_of_a_code_is_logged(mirror: Mirror, tmp_path: Path) -> None:
    value = "SECRET-VALUE-4711"
    mirror.simulator.behaviour.refused_values.add(value)
    async with mirror.opened(), ready(mirror, tmp_path) as daemon:
        await queue(mirror, value)
        await queue(mirror, "GOOD")
        await daemon.event("changes_failed")
        await done(mirror, rows=1)
        await daemon.stopped(signal.SIGTERM)
    assert value not in str(daemon.logs)


@pytest.mark.long
async def test_a_lost_answer_of_which_nothing_can_become_is_no_failure_that_stays(
    mirror: Mirror, tmp_path: Path
) -> None:
    """Its voucher is hidden since, so that no later call ends what the lost one began."""
    hidden = voucher_of(mirror)

    async def hide(operation: Operation, _body: Any) -> None:
        if operation is Operation.ADD_CODES:
            mirror.world.vouchers.pop(hidden.id, None)

    async with mirror.opened(), ready(mirror, tmp_path, **SOON) as daemon:
        mirror.simulator.on_request = hide
        mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
        await mirror.execute(ADD, voucher=hidden.id, value="LOST")
        await daemon.event("failing")
        await daemon.event("recovered")
        assert await statuses(mirror) == ["uncertain"]
