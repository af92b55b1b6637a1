"""A server that was only started anew is known to whoever worked with it last, and waited for by who did not."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.demo.daemon_process import running_daemon
from sync.postgres.migrations import migrate
from tests.outages.helpers import until
from tests.support.mirror import Mirror
from tests.support.outbox import active
from tests.support.physical import PhysicalServer, physical_server

from .conftest import Cli

QUEUE = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', :voucher, unnest(:values)"
TAKEN_OVER = "UPDATE sync.incarnation SET timeline = timeline - 1, started_at = started_at - interval '1 day'"
STARTED_ANEW = "UPDATE sync.incarnation SET started_at = started_at - interval '1 day'"
ALL_DONE = "NOT EXISTS (SELECT FROM mews.voucher_code_outbox WHERE status <> 'done')"


@pytest.fixture
def server() -> Iterator[PhysicalServer]:
    with physical_server() as server:
        migrate(server.url)
        yield server


@pytest.mark.long
async def test_who_does_not_know_it_waits_for_the_daemon_that_does_and_holds_nothing(
    server: PhysicalServer, cli: Cli, tmp_path: Path
) -> None:
    """As a `once` of another user or host, in the seconds before the daemon has found the server again."""
    mirror = Mirror(server.url)
    mirror.simulator.behaviour.allow_duplicates = True
    async with mirror.opened():
        voucher = mirror.add_voucher()
        stranger = mirror.environment | {"SYNC_STATE_DIR": str(tmp_path / "state")}
        assert (await cli("once", settings=stranger)).code == 0
        async with running_daemon(mirror.environment, tmp_path, lambda words: None):
            await mirror.execute(QUEUE, voucher=voucher.id, values=["FIRST"])
            await until(mirror, "EXISTS (SELECT FROM mews.voucher_code_outbox)")
            await until(mirror, ALL_DONE)
            await mirror.connection.engine.dispose()
            server.stop()
            server.start()
            await mirror.execute(QUEUE, voucher=voucher.id, values=["SECOND", "THIRD"])
            assert (await cli("once", settings=stranger)).code == 0  # which may come before the daemon, or after it
            await until(mirror, ALL_DONE)
            assert await mirror.rows("SELECT FROM sync.incarnation WHERE gap IS NULL")
        assert {value for _voucher, value in active(mirror)} == {"FIRST", "SECOND", "THIRD"}
        assert set(active(mirror).values()) == {1}


@pytest.mark.long
@pytest.mark.parametrize("has_any", [False, True])
async def test_who_has_something_to_send_waits_behind_a_takeover_and_nobody_else(
    mirror: Mirror, cli: Cli, has_any: bool
) -> None:
    async with mirror.opened():
        settings = mirror.environment | {"SYNC_LEASE_S": "1.5", "SYNC_SETTLE_AFTER_S": "1"}
        voucher = mirror.add_voucher()
        assert (await cli("once", settings=settings)).code == 0
        if has_any:
            await mirror.execute(QUEUE, voucher=voucher.id, values=["NEW"])
        await mirror.execute(TAKEN_OVER)
        ended = await cli("once", settings=settings)
        assert (ended.code, "another server has taken over" in ended.stderr) == (0, has_any)
        assert ((voucher.id, "NEW") in active(mirror)) is has_any


@pytest.mark.long
async def test_of_a_copy_that_another_server_has_it_is_told_at_once(mirror: Mirror, cli: Cli) -> None:
    async with mirror.opened():
        settings = mirror.environment | {"SYNC_LEASE_S": "1.5", "SYNC_SETTLE_AFTER_S": "1"}
        voucher = mirror.add_voucher()
        assert (await cli("once", settings=settings)).code == 0
        await mirror.execute(QUEUE, voucher=voucher.id, values=["NEW"])
        await mirror.execute(f"{TAKEN_OVER}, database_oid = 1")
        ended = await cli("once", settings=settings)
        told = ["voucher-sync adopt" in ended.stderr, "another server has taken over" in ended.stderr]
        assert (ended.code, told) == (1, [True, False])


@pytest.mark.long
async def test_who_only_looks_what_there_is_to_adopt_waits_for_who_knows_the_server(
    mirror: Mirror, cli: Cli, tmp_path: Path
) -> None:
    """As in the seconds before a daemon that runs has found it again."""
    async with mirror.opened():
        voucher = mirror.add_voucher()
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.execute(QUEUE, voucher=voucher.id, values=["NEW"])
        await mirror.execute(STARTED_ANEW)
        stranger = mirror.environment | {"SYNC_STATE_DIR": str(tmp_path / "state")}
        looking = asyncio.ensure_future(cli("adopt", "--show", settings=stranger))
        await asyncio.sleep(3)
        known = await cli("once", settings=mirror.environment)
        shown = await looking
        assert (known.code, shown.code, "nothing to adopt" in shown.stdout) == (0, 0, True), known.stderr
        assert (voucher.id, "NEW") in active(mirror)
