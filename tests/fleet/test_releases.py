"""A replica of a release before goes on working on the migrated schema, beside a new one; no change is made twice."""

import subprocess
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from sync.postgres.migrations import migrate
from tests.fleet.calls import Calls, now_s
from tests.fleet.replicas import Fleet, until_done
from tests.support.daemon import running
from tests.support.documents import ROOT
from tests.support.mirror import Mirror
from tests.support.process import run

WITHOUT_REPLICAS, WITH_REPLICAS = "e9aa4c80", "8d198f4e"
"""What was before connections were shared among replicas, and after."""
HOTELS = 4
Checkout = Callable[[str], Path]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Makes a directory with the code of a commit."""

    def make(commit: str) -> Path:
        asked = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=False)
        if asked.returncode:
            pytest.skip(f"the code of a release before is not here: {asked.stderr.decode().strip()}")
        directory = tmp_path / commit
        with tarfile.open(fileobj=BytesIO(asked.stdout)) as archive:
            archive.extractall(directory, filter="data")
        return directory

    return make


async def migrated_by(release: Path, mirror: Mirror) -> None:
    """Brings the database to what a release needs."""
    ended = await run("migrate", settings=mirror.environment, directory=release)
    assert ended.code == 0, ended.stderr


@pytest.mark.long
@pytest.mark.direct
@pytest.mark.parametrize("commit", [WITHOUT_REPLICAS, WITH_REPLICAS])
async def test_the_release_before_works_for_the_environment_s_connection_beside_a_new_one(
    empty_database_url: str, tmp_path: Path, checkout: Checkout, commit: str
) -> None:
    release, mirror = checkout(commit), Mirror(empty_database_url)
    mirror.simulator.behaviour.allow_duplicates = True
    voucher, quiet = mirror.add_voucher(), {"SYNC_LOG_LEVEL": "info", "SYNC_LEASE_S": "30"}
    async with mirror.served():
        await migrated_by(release, mirror)
        calls, fleet = Calls(mirror.simulator), Fleet(mirror, tmp_path, vouchers={"token": voucher})
        async with running(mirror, release, MEWS_CLIENT="old", **quiet) as old:
            await calls.until_pulled(["token"], now_s())
            migrate(empty_database_url)
            fleet.queue("token", "ALONE")
            await until_done(empty_database_url)
            async with running(mirror, tmp_path, MEWS_CLIENT="new", **quiet) as new:
                await new.event("started")
                for number in range(20):
                    fleet.queue("token", f"BOTH-{number}")
                await until_done(empty_database_url)
                old.process.kill()
                await old.process.wait()
                await calls.until_pulled(["token"], now_s())
                fleet.queue("token", "AFTER")
                await until_done(empty_database_url)
    assert fleet.made() == dict.fromkeys(["ALONE", *(f"BOTH-{number}" for number in range(20)), "AFTER"], 1)
    assert calls.by_client(0)["old"] > 0
    assert mirror.simulator.violations == []


@pytest.mark.long
@pytest.mark.direct
async def test_replicas_of_two_releases_share_the_hotels(
    empty_database_url: str, tmp_path: Path, checkout: Checkout
) -> None:
    release, mirror = checkout(WITH_REPLICAS), Mirror(empty_database_url)
    mirror.simulator.behaviour.allow_duplicates = True
    async with mirror.served():
        await migrated_by(release, mirror)
        fleet, before = Fleet(mirror, tmp_path), Fleet(mirror, release)
        fleet.add_hotels(HOTELS)
        before.key = fleet.key
        calls = Calls(mirror.simulator)
        async with before.replica(MEWS_CLIENT="old") as old:
            await fleet.until_shared(HOTELS)
            migrate(empty_database_url)
            async with fleet.replica(MEWS_CLIENT="new"):
                await fleet.until_shared(HOTELS // 2, HOTELS // 2)
                await calls.until_pulled(fleet.vouchers, now_s())
                for name in fleet.vouchers:
                    fleet.queue(name, *(f"{name}-{number}" for number in range(3)))
                await until_done(empty_database_url)
                old.process.kill()
                await old.process.wait()
                await fleet.until_shared(HOTELS)
                await calls.until_pulled(fleet.vouchers, now_s())
    assert set(fleet.made().values()) == {1}
    assert {"old", "new"} <= calls.by_client(0).keys()
    assert mirror.simulator.violations == []
