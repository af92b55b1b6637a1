"""Notifications of a stranger make a replica beat no more often than it must."""

import asyncio
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sync.connection.tables import CONNECTIONS_CHANNEL
from sync.service.supervisor import LEAST_PAUSE_S
from tests.migrations.helpers import query
from tests.support.daemon import running
from tests.support.mirror import Mirror

ROUNDS = 1000


def flood(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as stranger:
        for _ in range(ROUNDS):
            stranger.execute(f"NOTIFY {CONNECTIONS_CHANNEL}".encode())


@pytest.mark.long
@pytest.mark.direct
async def test_a_flood_of_notifications_brings_few_beats(mirror: Mirror, tmp_path: Path) -> None:
    async with running(mirror, tmp_path) as daemon:
        await daemon.event("working")
        before: list[Any] = query(mirror.database_url, "SELECT beat FROM sync.daemons")
        began_s = time.monotonic()
        await asyncio.to_thread(flood, mirror.database_url)
        after: list[Any] = query(mirror.database_url, "SELECT beat FROM sync.daemons")
        most = (time.monotonic() - began_s) / LEAST_PAUSE_S + 3
        assert after[0][0] - before[0][0] <= most
