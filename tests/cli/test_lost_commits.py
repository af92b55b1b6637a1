"""A server that went back in time: its files were put back, or a standby that was behind took over (invariant 14)."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync.demo.daemon_process import running_daemon
from sync.postgres.migrations import migrate
from tests.outages.helpers import until
from tests.support.mirror import Mirror
from tests.support.outbox import active
from tests.support.physical import PhysicalServer, physical_server

from .conftest import SHOWN_SOON, Cli

pytestmark = pytest.mark.long

VALUES = [f"NEW-{number:02}" for number in range(20)]
TAKEN_BACK = VALUES[:5]
QUEUE = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', :voucher, unnest(:values)"
PUT_OFF = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, not_before)
SELECT 'add', :voucher, unnest(:values), now() + interval '1 hour'
"""
LET_GO = "UPDATE mews.voucher_code_outbox SET not_before = now() WHERE status = 'pending'"
LAST_IS_DONE = "EXISTS (SELECT FROM mews.voucher_code_outbox WHERE value = 'LAST' AND status = 'done')"
ALL = len(VALUES) + 1
CANCEL = "UPDATE mews.voucher_code_outbox SET status = 'cancelled' WHERE value = ANY (:values)"


@pytest.fixture
def server() -> Iterator[PhysicalServer]:
    with physical_server() as server:
        migrate(server.url)
        yield server


def made(mirror: Mirror) -> Counter[str | None]:
    """How often each value stands."""
    return Counter({value: count for (_voucher, value), count in active(mirror).items()})


async def statuses(mirror: Mirror) -> Counter[str]:
    rows = await mirror.rows("SELECT status, count(*) AS number FROM mews.voucher_code_outbox GROUP BY status")
    return Counter({row["status"]: row["number"] for row in rows})


@pytest.mark.parametrize("promote", [False, True], ids=["files put back", "standby promoted"])
async def test_what_was_queued_before_lost_commits_is_held_and_what_comes_after_goes_on(
    server: PhysicalServer, cli: Cli, promote: bool
) -> None:
    mirror = Mirror(server.url)
    mirror.simulator.behaviour.allow_duplicates = True
    async with mirror.opened():
        voucher = mirror.add_voucher()
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.execute(QUEUE, voucher=voucher.id, values=VALUES)
        await mirror.connection.engine.dispose()
        server.back_up()
        await mirror.execute(CANCEL, values=TAKEN_BACK)
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.connection.engine.dispose()
        server.put_back(promote=promote)
        await mirror.execute(QUEUE, voucher=voucher.id, values=["LATER"])
        await cli("once", settings=mirror.environment)
        before = Counter(set(VALUES) - set(TAKEN_BACK))
        assert made(mirror) == before
        later = await mirror.rows("SELECT id FROM mews.voucher_code_outbox WHERE status = 'held'")
        assert len(later) == len(VALUES) + 1  # queued before anybody had noticed
        await mirror.execute(QUEUE, voucher=voucher.id, values=["LAST"])
        assert (await cli("once", settings=mirror.environment)).code == 0
        assert made(mirror) == before + Counter(["LAST"])
        shown = await cli("adopt", "--show", "--json", settings=mirror.environment | SHOWN_SOON)
        assert (shown.code, json.loads(shown.stdout)["left"]) == (1, {"adds": len(TAKEN_BACK) + 1, "deletes": 0})
        await mirror.execute(CANCEL, values=TAKEN_BACK)
        assert (await cli("adopt", "--release", settings=mirror.environment | SHOWN_SOON)).code == 0
        assert (await cli("once", settings=mirror.environment)).code == 0
        assert made(mirror) == before + Counter(["LATER", "LAST"])


@pytest.mark.parametrize("promote", [False, True], ids=["server started anew", "standby promoted"])
async def test_without_loss_nobody_is_asked(server: PhysicalServer, cli: Cli, promote: bool) -> None:
    mirror = Mirror(server.url)
    async with mirror.opened():
        voucher = mirror.add_voucher()
        await mirror.execute(QUEUE, voucher=voucher.id, values=TAKEN_BACK)
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.execute(QUEUE, voucher=voucher.id, values=VALUES[5:])
        await mirror.connection.engine.dispose()
        server.back_up()
        server.put_back(promote=promote)
        assert (await cli("once", settings=mirror.environment | SHOWN_SOON)).code == 0
        assert await statuses(mirror) == {"done": len(VALUES)}
        assert made(mirror) == Counter(VALUES)


async def test_files_that_nobody_here_knows_send_nothing(server: PhysicalServer, cli: Cli, tmp_path: Path) -> None:
    mirror = Mirror(server.url)
    async with mirror.opened():
        voucher = mirror.add_voucher()
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.execute(QUEUE, voucher=voucher.id, values=VALUES)
        await mirror.connection.engine.dispose()
        server.back_up()
        server.put_back(promote=False)
        stranger = mirror.environment | {"SYNC_STATE_DIR": str(tmp_path / "state")}
        ended = await cli("once", settings=stranger)
        assert (ended.code, "voucher-sync adopt" in ended.stderr, made(mirror)) == (1, True, Counter())
        status = json.loads((await cli("status", "--json", settings=stranger)).stdout)
        assert (status[0]["gap"], status[0]["outbox"]) == ("copy", {"held": len(VALUES)})
        assert status[0]["held"] == {"before_a_gap": len(VALUES)}


async def test_a_daemon_that_runs_meanwhile_sends_nothing_again(server: PhysicalServer, tmp_path: Path) -> None:
    mirror = Mirror(server.url)
    mirror.simulator.behaviour.allow_duplicates = True
    async with mirror.opened():
        voucher = mirror.add_voucher()
        quick = {"SYNC_PULL_INTERVAL_S": "1", "SYNC_PUSH_POLL_S": "0.5", "SYNC_LEASE_S": "3"}
        async with running_daemon(mirror.environment | quick, tmp_path, lambda words: None):
            await until(mirror, "EXISTS (SELECT FROM mews.vouchers)")
            await mirror.execute(QUEUE, voucher=voucher.id, values=["FIRST"])
            await until(mirror, "EXISTS (SELECT FROM mews.voucher_code_outbox WHERE status = 'done')")
            await mirror.execute(PUT_OFF, voucher=voucher.id, values=VALUES)
            server.back_up()
            await mirror.connection.engine.dispose()
            await mirror.execute(LET_GO)
            await until(mirror, f"(SELECT count(*) FROM mews.voucher_code_outbox WHERE status = 'done') = {ALL}")
            server.put_back(promote=True)
            await mirror.connection.engine.dispose()
            await mirror.execute(LET_GO)
            await until(mirror, f"(SELECT count(*) FROM mews.voucher_code_outbox WHERE status = 'held') = {ALL - 1}")
            await mirror.execute(QUEUE, voucher=voucher.id, values=["LAST"])
            await until(mirror, LAST_IS_DONE)
        assert made(mirror) == Counter(["FIRST", *VALUES, "LAST"])


async def test_who_has_not_worked_with_it_for_long_sends_nothing_of_files_that_were_put_back(
    server: PhysicalServer, cli: Cli, tmp_path: Path
) -> None:
    """Another one's witness would tell: what is in the files since one's own was written may have been undone."""
    mirror = Mirror(server.url)
    mirror.simulator.behaviour.allow_duplicates = True
    async with mirror.opened():
        voucher = mirror.add_voucher()
        spare = mirror.environment | {"SYNC_STATE_DIR": str(tmp_path / "state")}
        assert (await cli("once", settings=spare)).code == 0
        await mirror.execute(QUEUE, voucher=voucher.id, values=["FIRST"])
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.execute(QUEUE, voucher=voucher.id, values=VALUES)
        await mirror.connection.engine.dispose()
        server.back_up()
        await mirror.execute(CANCEL, values=TAKEN_BACK)
        assert (await cli("once", settings=mirror.environment)).code == 0
        await mirror.connection.engine.dispose()
        server.put_back(promote=False)
        ended = await cli("once", settings=spare)
        assert made(mirror) == Counter(["FIRST", *VALUES[5:]])
        assert (ended.code, "voucher-sync adopt" in ended.stderr) == (1, True)
