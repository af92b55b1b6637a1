"""A server that is restored to a point in time, upgraded to another version, or killed (invariant 14)."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from sync.demo.daemon_process import running_daemon
from sync.demo.simulator import Operation, RequestRecord
from sync.postgres.migrations import migrate
from tests.cli.test_lost_commits import CANCEL, QUEUE, made, statuses
from tests.outages.helpers import until
from tests.support.clusters import NEWEST, OLDER, Cluster, Clusters, clusters
from tests.support.mirror import Mirror

from .conftest import SHOWN_SOON, Cli

pytestmark = pytest.mark.long

VALUES = [f"NEW-{number:02}" for number in range(20)]
TAKEN_BACK = VALUES[:5]
KILLS = 4
ALL_DONE = "NOT EXISTS (SELECT FROM mews.voucher_code_outbox WHERE status <> 'done')"


@pytest.fixture
def made_here() -> Iterator[Clusters]:
    with clusters() as made:
        yield made


def archiving(made_here: Clusters) -> Cluster:
    """A cluster that keeps its WAL, and a base backup of it."""
    cluster = made_here.initialised("original")
    cluster.start(archive_mode="on", archive_command=f"cp %p {made_here.archive}/%f")
    return cluster


async def test_a_restore_to_a_point_in_time_makes_nothing_twice_and_nothing_that_was_taken_back(
    made_here: Clusters, cli: Cli
) -> None:
    original = archiving(made_here)
    migrate(original.url)
    mirror = Mirror(original.url)
    mirror.simulator.behaviour.allow_duplicates = True
    async with mirror.served():
        async with mirror.connected():
            voucher = mirror.add_voucher()
            assert (await cli("once", settings=mirror.environment)).code == 0
            restored = original.base_backup("restored")
            await mirror.execute(QUEUE, voucher=voucher.id, values=VALUES)
            original.execute("SELECT pg_create_restore_point('queued')")
            await mirror.execute(CANCEL, values=TAKEN_BACK)
            assert (await cli("once", settings=mirror.environment)).code == 0
            original.execute("SELECT pg_switch_wal()")
        original.stop()  # which waits for the archive
        restored.recover("queued")
        mirror.move_to(restored.url)
        async with mirror.connected():
            asked = await cli("once", settings=mirror.environment)
            assert (asked.code, "voucher-sync adopt" in asked.stderr) == (0, True), asked
            assert (await statuses(mirror), made(mirror)) == (
                {"held": len(VALUES)},
                Counter(set(VALUES) - set(TAKEN_BACK)),
            )
            shown = await cli("adopt", "--show", "--json", settings=mirror.environment | SHOWN_SOON)
            assert (shown.code, json.loads(shown.stdout)["left"]) == (1, {"adds": len(TAKEN_BACK), "deletes": 0})
            assert (await cli("adopt", "--cancel", settings=mirror.environment | SHOWN_SOON)).code == 0
            assert (await cli("once", settings=mirror.environment)).code == 0
            assert made(mirror) == Counter(set(VALUES) - set(TAKEN_BACK))
            assert (await mirror.compare()).is_equal


async def test_a_server_of_the_next_version_is_asked_about_once_and_makes_everything_once(
    made_here: Clusters, cli: Cli
) -> None:
    old, new = made_here.initialised("old", OLDER), made_here.initialised("new", NEWEST)
    old.start()
    migrate(old.url)
    mirror = Mirror(old.url)
    async with mirror.served():
        async with mirror.connected():
            voucher = mirror.add_voucher()
            await mirror.execute(QUEUE, voucher=voucher.id, values=TAKEN_BACK)
            assert (await cli("once", settings=mirror.environment)).code == 0
            await mirror.execute(QUEUE, voucher=voucher.id, values=VALUES[5:])
        old.stop()
        new.upgrade(old)
        new.start()
        mirror.move_to(new.url)
        async with mirror.connected():
            assert (await cli("migrate", settings=mirror.environment)).code == 0
            asked = await cli("once", settings=mirror.environment)
            assert (asked.code, "voucher-sync adopt" in asked.stderr) == (1, True)
            assert (await cli("adopt", settings=mirror.environment | SHOWN_SOON)).code == 0
            for _ in range(2):
                assert (await cli("once", settings=mirror.environment)).code == 0
            assert (await statuses(mirror), made(mirror)) == ({"done": len(VALUES)}, Counter(VALUES))
            assert (await mirror.compare()).is_equal


async def test_a_server_that_is_killed_without_its_last_commits_makes_nothing_twice_and_nobody_is_asked(
    made_here: Clusters, tmp_path: Path
) -> None:
    """What is sent waits for the disk, whatever the server's settings: so nothing seems to have gone back in time."""
    cluster = made_here.initialised("server")
    settings = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
    cluster.start(**settings)
    migrate(cluster.url)
    mirror = Mirror(cluster.url)
    mirror.simulator.behaviour.allow_duplicates = True
    killed = 0

    async def on_answer(record: RequestRecord) -> None:
        nonlocal killed
        if record.operation is Operation.ADD_CODES and killed < KILLS:
            killed += 1
            await asyncio.to_thread(cluster.kill)
            await asyncio.to_thread(lambda: cluster.start(**settings))

    mirror.simulator.on_answer = on_answer
    quick = {"SYNC_PULL_INTERVAL_S": "1", "SYNC_PUSH_POLL_S": "0.5", "SYNC_LEASE_S": "6", "SYNC_SETTLE_AFTER_S": "1"}
    async with mirror.opened():
        voucher = mirror.add_voucher()
        async with running_daemon(mirror.environment | quick, tmp_path, lambda words: None):
            for value in VALUES[: 2 * KILLS]:
                await queued(cluster, voucher.id, value)
            await mirror.connection.engine.dispose()
            await until(mirror, f"{ALL_DONE} OR EXISTS (SELECT FROM mews.voucher_code_outbox WHERE status = 'held')")
        kept = {row["value"] for row in await mirror.rows("SELECT value FROM mews.voucher_code_outbox")}
        assert killed == KILLS
        assert await held(mirror) == set()
        assert set(made(mirror).values()) == {1}
        assert kept <= set(made(mirror))


async def queued(cluster: Cluster, voucher_id: object, value: str) -> None:
    """A change queued by an application that tries again until it is told that it is, and waits for its end."""
    statement = f"""
        INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, idempotency_key)
        VALUES ('add', '{voucher_id}', '{value}', '{value}') ON CONFLICT DO NOTHING
    """
    ended = f"SELECT status IN ('done', 'held') FROM mews.voucher_code_outbox WHERE value = '{value}'"
    while True:
        with suppress(psycopg.OperationalError):
            await asyncio.to_thread(cluster.execute, statement)
            if await asyncio.to_thread(cluster.execute, ended) == [(True,)]:
                return
        await asyncio.sleep(0.05)


async def held(mirror: Mirror) -> set[str]:
    """What waits for somebody to adopt the database."""
    return {
        row["value"] for row in await mirror.rows("SELECT value FROM mews.voucher_code_outbox WHERE status = 'held'")
    }
