"""Many hotels are served by a replica that may have few files open."""

import resource
from pathlib import Path

import pytest

from tests.fleet.replicas import served
from tests.support.daemon import PATIENCE_S

HOTELS = 60
FEW = 56
"""For what a replica has open by itself, a third of that, and for some calls, but not one of each hotel."""


@pytest.mark.long
async def test_fewer_calls_go_at_once_and_no_hotel_fails(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path, HOTELS) as fleet:
        fleet.mirror.simulator.latency_s = 4.0
        async with fleet.replica(SYNC_LOG_LEVEL="debug") as replica:
            resource.prlimit(replica.process.pid, resource.RLIMIT_NOFILE, (FEW, FEW))
            while replica.count("connection_begun") < HOTELS:
                await replica.event("connection_begun")
            fleet.mirror.simulator.latency_s = 0.0
            pulled = set[str]()
            while len(pulled) < HOTELS:
                pulled.add((await replica.event("pulled", 2 * PATIENCE_S))["connection"])
            assert [replica.count(event) for event in ("failing", "platform_away", "defect")] == [0, 0, 0]
