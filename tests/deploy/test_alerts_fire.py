"""Each alert fires by what it is for, done to a real daemon, and stops with it: Prometheus, whose times pass faster."""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import psycopg
import pytest

from sync.demo.simulator import Fault, Hang, Operation, Status
from sync.postgres.urls import libpq_url
from tests.support.daemon import Daemon, running
from tests.support.loaded import run
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox
from tests.support.postgres import database_of, new_database
from tests.support.prometheus import Prometheus, needs_prometheus, watching
from tests.support.proxy import Proxy

pytestmark = [needs_prometheus, pytest.mark.long, pytest.mark.timeout(400)]
TOKEN, PORTFOLIO = "a-token-of-many-characters", "the-portfolio-token"
DOWN: Mapping[Fault, float] = {Status(503): 1.0}


@dataclass(frozen=True, slots=True)
class Watched:
    """A daemon, and the Prometheus that watches it."""

    daemon: Daemon
    prometheus: Prometheus
    address: str


@asynccontextmanager
async def watched(
    mirror: Mirror, directory: Path, *alerts: str, faster: int = 60, settings: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Watched]:
    """Both at work; `settings` are the daemon's own."""
    served = {"SYNC_HTTP_BIND": "127.0.0.1:0", "SYNC_HTTP_TOKEN": TOKEN, "SYNC_LOG_LEVEL": "info"}
    async with running(mirror, directory, **served, **settings) as daemon:
        listening = await daemon.event("http_listening")
        address = listening["address"].removeprefix("http://").rstrip("/")
        async with watching(directory, address, TOKEN, *alerts, faster=faster) as prometheus:
            yield Watched(daemon, prometheus, address)


async def test_an_api_that_is_down(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    alerts = ("VoucherSyncFailing", "VoucherSyncNoProgress", "VoucherSyncStale")
    async with watched(mirror, tmp_path, *alerts) as site:
        mirror.simulator.faults.by_chance(DOWN, seed=1)
        await site.prometheus.until_firing(*alerts)
        mirror.simulator.faults.stop()
        await site.prometheus.until_over(*alerts)


async def test_a_silent_stall_in_which_nothing_fails(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    async with watched(mirror, tmp_path, "VoucherSyncNoProgress", "VoucherSyncFailing") as site:
        mirror.simulator.faults.by_chance({Hang(): 1.0}, seed=1, operations=[Operation.GET_CODES])
        await site.prometheus.until_firing("VoucherSyncNoProgress")
        assert "VoucherSyncFailing" not in site.prometheus.firing
        mirror.simulator.faults.stop()
        await site.prometheus.until_over("VoucherSyncNoProgress", "VoucherSyncFailing")


async def test_a_daemon_that_has_never_read_anything(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    mirror.simulator.faults.by_chance(DOWN, seed=1)
    async with watched(mirror, tmp_path, "VoucherSyncNeverPolled") as site:
        await site.prometheus.until_firing("VoucherSyncNeverPolled")
        mirror.simulator.faults.stop()
        await site.prometheus.until_over("VoucherSyncNeverPolled")


async def test_a_daemon_that_is_gone(mirror: Mirror, tmp_path: Path) -> None:
    alerts = ("VoucherSyncDown", "VoucherSyncReplicaDown")
    async with watched(mirror, tmp_path, *alerts) as site:
        assert await site.daemon.stopped(signal.SIGTERM) == 0
        await site.prometheus.until_firing(*alerts)
        again = {"SYNC_HTTP_BIND": site.address, "SYNC_HTTP_TOKEN": TOKEN}
        async with running(mirror, tmp_path, **again):
            await site.prometheus.until_over(*alerts)


async def test_a_database_that_is_away(database_url: str, tmp_path: Path) -> None:
    async with Proxy(database_url).served() as proxy:
        mirror = Mirror(proxy.url)
        async with mirror.opened(), watched(mirror, tmp_path, "VoucherSyncDatabaseDown") as site:
            proxy.is_down = True
            proxy.cut()
            await site.prometheus.until_firing("VoucherSyncDatabaseDown")
            proxy.is_down = False
            await site.prometheus.until_over("VoucherSyncDatabaseDown")


async def test_a_database_that_is_read_and_takes_no_heartbeat(mirror: Mirror, tmp_path: Path) -> None:
    async with watched(mirror, tmp_path, "VoucherSyncHeartbeatGone", faster=20) as site:
        with psycopg.connect(libpq_url(mirror.database_url)) as somebody:
            somebody.execute("LOCK TABLE sync.connections IN EXCLUSIVE MODE")
            await site.prometheus.until_firing("VoucherSyncHeartbeatGone")
        await site.prometheus.until_over("VoucherSyncHeartbeatGone")


async def test_a_replica_that_is_killed(mirror: Mirror, tmp_path: Path) -> None:
    async with running(mirror, tmp_path) as other:
        await other.event("standing_by" if other.count("working") else "working")
        async with watched(mirror, tmp_path, "VoucherSyncReplicaGone") as site:
            await site.daemon.event("standing_by")
            other.process.kill()
            await other.process.wait()
            await site.prometheus.until_firing("VoucherSyncReplicaGone")
            async with running(mirror, tmp_path):
                await site.prometheus.until_over("VoucherSyncReplicaGone")


async def test_connections_that_no_daemon_has_the_key_to(mirror: Mirror, tmp_path: Path) -> None:
    alerts = ("VoucherSyncConnectionsUnowned", "VoucherSyncSecretKeyMissing")
    async with watched(mirror, tmp_path, *alerts) as site:
        await mirror.execute(
            "INSERT INTO sync.connections (name, state, origin, platform_address, access_token, added_at) "
            "VALUES ('lake', 'ok', 'command', 'https://api.mews.com', 'x', now())"
        )
        await site.prometheus.until_firing(*alerts)
        removed = await run("connections", "remove", "lake", settings=mirror.environment, directory=tmp_path)
        assert removed.code == 0, removed.stderr
        await site.prometheus.until_over(*alerts)


async def test_a_delete_that_does_not_arrive(mirror: Mirror, outbox: Outbox, tmp_path: Path) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    async with watched(mirror, tmp_path, "VoucherSyncOutboxWaits") as site:
        mirror.simulator.faults.by_chance({Status(409): 1.0}, seed=1, operations=[Operation.DELETE_CODES])
        await outbox.delete(voucher, "A")
        await site.prometheus.until_firing("VoucherSyncOutboxWaits")
        mirror.simulator.faults.stop()
        await site.prometheus.until_over("VoucherSyncOutboxWaits")
        assert await outbox.statuses() == ["done"]


async def test_a_change_of_which_nobody_knows_what_became_of_it(mirror: Mirror, outbox: Outbox, tmp_path: Path) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    async with watched(mirror, tmp_path, "VoucherSyncOutboxUncertain", settings={"SYNC_SETTLE_AFTER_S": "1"}) as site:
        mirror.simulator.faults.by_chance({Status(500): 1.0}, seed=1)
        await outbox.add(voucher, "B")
        await site.prometheus.until_firing("VoucherSyncOutboxUncertain")
        mirror.simulator.faults.stop()
        await site.prometheus.until_over("VoucherSyncOutboxUncertain")
        assert await outbox.statuses() == ["done"]


async def test_deletes_that_are_too_many(mirror: Mirror, outbox: Outbox, tmp_path: Path) -> None:
    voucher = mirror.add_voucher()
    values = [f"CODE-{number}" for number in range(20)]
    mirror.add_codes(voucher, values)
    async with watched(mirror, tmp_path, "VoucherSyncChangesHeld", settings={"SYNC_DELETE_BRAKE_MIN": "10"}) as site:
        await outbox.delete(voucher, *values)
        await site.prometheus.until_firing("VoucherSyncChangesHeld")
        released = await run("outbox", "release", "--all", settings=mirror.environment, directory=tmp_path)
        assert released.code == 0, released.stderr
        await site.prometheus.until_over("VoucherSyncChangesHeld")


async def test_a_change_that_is_refused_for_good(mirror: Mirror, outbox: Outbox, tmp_path: Path) -> None:
    voucher = mirror.add_voucher()
    async with watched(mirror, tmp_path, "VoucherSyncChangesFailed", faster=240) as site:
        mirror.simulator.faults.script(Operation.ADD_CODES, Status(403))
        await outbox.add(voucher, "A")
        await site.prometheus.until_firing("VoucherSyncChangesFailed")
        await site.prometheus.until_over("VoucherSyncChangesFailed")


async def test_a_change_that_something_on_the_table_refuses(mirror: Mirror, outbox: Outbox, tmp_path: Path) -> None:
    voucher = mirror.add_voucher()
    await mirror.execute("ALTER TABLE mews.voucher_code_outbox ADD CHECK (status <> 'sending')")
    async with watched(mirror, tmp_path, "VoucherSyncChangesStuck") as site:
        await outbox.add(voucher, "A")
        await site.prometheus.until_firing("VoucherSyncChangesStuck")
        await mirror.execute("DELETE FROM mews.voucher_code_outbox")
        await site.prometheus.until_over("VoucherSyncChangesStuck")


async def test_one_bad_record_which_stops_nothing(mirror: Mirror, tmp_path: Path) -> None:
    voucher = mirror.add_voucher()
    async with watched(mirror, tmp_path, "VoucherSyncRecordsRejected", "VoucherSyncFailing", faster=240) as site:
        mirror.add_codes(voucher, ["A\x00B", "GOOD"], days_old=0)
        await site.prometheus.until_firing("VoucherSyncRecordsRejected")
        await site.prometheus.until_over("VoucherSyncRecordsRejected", "VoucherSyncFailing")
        assert await mirror.rows("SELECT value FROM mews.voucher_codes") == [{"value": "GOOD"}]


async def test_codes_that_have_drifted(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A", "B"])
    audit = ("audit", "--repair")
    async with watched(mirror, tmp_path, "VoucherSyncDrift") as site:
        await mirrored(mirror, 2)
        await mirror.execute("UPDATE mews.voucher_codes SET value = 'X' WHERE value = 'A'")
        assert (await run(*audit, settings=mirror.environment, directory=tmp_path)).code == 0
        await site.prometheus.until_firing("VoucherSyncDrift")
        assert (await run(*audit, settings=mirror.environment, directory=tmp_path)).code == 0
        await site.prometheus.until_over("VoucherSyncDrift")


async def test_an_audit_that_misses_too_much(mirror: Mirror, tmp_path: Path) -> None:
    codes = mirror.add_codes(mirror.add_voucher(), [f"CODE-{number}" for number in range(20)])
    audit = ("audit", "--repair")
    async with watched(mirror, tmp_path, "VoucherSyncAuditStopped") as site:
        await mirrored(mirror, 20)
        for code in codes[:5]:
            mirror.world.hard_delete_code(code.id)
        assert (await run(*audit, settings=mirror.environment, directory=tmp_path)).code == 1
        await site.prometheus.until_firing("VoucherSyncAuditStopped")
        assert (await run(*audit, "--accept-loss", settings=mirror.environment, directory=tmp_path)).code == 0
        await site.prometheus.until_over("VoucherSyncAuditStopped")


async def test_a_copied_database(mirror: Mirror, server_url: str, tmp_path: Path) -> None:
    await mirror.once()
    await mirror.connection.incarnation.check(mirror.connection.engine)
    await mirror.connection.engine.dispose()
    with new_database(server_url, template=database_of(mirror.database_url)) as copied_url:
        settings = {"DATABASE_URL": copied_url}
        async with watched(mirror, tmp_path, "VoucherSyncNotAdopted", settings=settings) as site:
            await site.prometheus.until_firing("VoucherSyncNotAdopted")
            settings |= {name: value for name, value in mirror.environment.items() if name not in settings}
            adopted = await run("adopt", "--release", settings=settings, directory=tmp_path)
            assert adopted.code == 0, adopted.stderr
            await site.prometheus.until_over("VoucherSyncNotAdopted")


async def test_an_api_that_calls_it_too_much(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    async with watched(mirror, tmp_path, "VoucherSyncRateLimited") as site:
        mirror.simulator.faults.by_chance({Status(429): 1.0}, seed=1, operations=[Operation.GET_CODES])
        await site.prometheus.until_firing("VoucherSyncRateLimited")
        mirror.simulator.faults.stop()
        await site.prometheus.until_over("VoucherSyncRateLimited")


async def test_a_budget_that_is_used_up(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    few = {"SYNC_RATE_LIMIT_REQUESTS": "10", "SYNC_RATE_LIMIT_WINDOW_S": "5"}
    async with watched(mirror, tmp_path, "VoucherSyncBudgetExhausted", faster=600, settings=few) as site:
        await site.prometheus.until_firing("VoucherSyncBudgetExhausted")
        assert await site.daemon.stopped(signal.SIGTERM) == 0
        again = {"SYNC_HTTP_BIND": site.address, "SYNC_HTTP_TOKEN": TOKEN}
        async with running(mirror, tmp_path, **again):
            await site.prometheus.until_over("VoucherSyncBudgetExhausted")


async def test_pulls_that_succeed_and_read_nothing(mirror: Mirror, tmp_path: Path) -> None:
    voucher = mirror.add_voucher()
    async with watched(mirror, tmp_path, "VoucherSyncNothingRead", faster=14_400) as site:
        await site.prometheus.until_firing("VoucherSyncNothingRead")
        mirror.add_codes(voucher, ["A"], days_old=0)
        await site.prometheus.until_over("VoucherSyncNothingRead")


async def test_a_hotel_that_the_token_no_longer_sees(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    hotel = mirror.world.add_enterprise("Hotel B")
    service = mirror.world.add_service(hotel.id, "Stay")
    voucher = mirror.world.add_voucher(service.id, "Winter", created_utc=mirror.clock() - timedelta(days=30))
    mirror.world.add_token(PORTFOLIO, name="portfolio", enterprise_ids=[mirror.hotel.id, hotel.id], portfolio=True)
    mirror.add_codes(voucher, ["B"])
    settings = {"MEWS_ACCESS_TOKEN": PORTFOLIO}
    async with watched(mirror, tmp_path, "VoucherSyncSkippedMore", faster=7_200, settings=settings) as site:
        await mirrored(mirror, 2)
        mirror.world.withdraw(PORTFOLIO, hotel.id)
        await site.prometheus.until_firing("VoucherSyncSkippedMore")
        mirror.world.grant(PORTFOLIO, hotel.id)
        await site.prometheus.until_over("VoucherSyncSkippedMore")


async def mirrored(mirror: Mirror, count: int) -> None:
    """Waits until the daemon has stored so many codes."""
    while await mirror.rows("SELECT count(*) FROM mews.voucher_codes") != [{"count": count}]:
        pass
