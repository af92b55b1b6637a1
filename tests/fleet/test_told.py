"""What is told of replicas at work: by the command, on the page of any of them, and as metrics."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fleet.replicas import Fleet
from tests.support.daemon import PATIENCE_S
from tests.support.loaded import run
from tests.support.mirror import Mirror

HOTELS = 4


async def told(fleet: Fleet) -> dict[str, Any]:
    """What `status --json` says of each connection."""
    settings = {"DATABASE_URL": fleet.mirror.database_url}
    ended = await run("status", "--json", settings=settings, directory=fleet.directory)
    return {one["name"]: one for one in json.loads(ended.stdout)}


async def until_told(fleet: Fleet, name: str, level: str) -> dict[str, Any]:
    """Waits until a connection is told as so; then what is told of all."""
    async with asyncio.timeout(PATIENCE_S):
        while (found := await told(fleet))[name]["verdict"]["level"] != level:
            pass
    return found


@pytest.mark.long
async def test_who_works_for_which_is_told_and_what_is_paused_is_nobodys(database_url: str, tmp_path: Path) -> None:
    mirror = Mirror(database_url)
    async with mirror.served():
        fleet = Fleet(mirror, tmp_path)
        fleet.add_hotels(HOTELS)
        async with fleet.replica(SYNC_HTTP_BIND="127.0.0.1:0") as first, fleet.replica() as second:
            address = (await first.event("http_listening"))["address"].rstrip("/")
            await fleet.until_shared(HOTELS // 2, HOTELS // 2)
            await fleet.all_pulled()
            found = await until_told(fleet, "hotel-0", "ok")
            ours = {f"({one.process.pid})" for one in (first, second)}
            assert {one["owner"].partition(" ")[2] for one in found.values()} == ours
            assert [one["connections"] for one in found["hotel-0"]["daemons"]] == [2, 2]

            await run("connections", "pause", "hotel-0", settings=mirror.environment, directory=tmp_path)
            found = await until_told(fleet, "hotel-0", "paused")
            assert found["hotel-0"]["owner"] is None
            assert sum(one["connections"] for one in found["hotel-0"]["daemons"]) == HOTELS - 1
            async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(PATIENCE_S):
                metrics, told = "", ('voucher_sync_paused{connection="hotel-0"} 1', "voucher_sync_replicas 2")
                while not all(one in metrics for one in told):  # one that beats late counts a moment later
                    metrics = (await client.get(f"{address}/metrics")).text
                while "3 of 4 connections work, the rest is paused" not in (page := (await client.get(address)).text):
                    pass
            owned = re.findall(r'voucher_sync_owned{connection="(.+)"} 1', metrics)
            assert sorted(owned) == ["hotel-1", "hotel-2", "hotel-3"]
            assert all(f"{owner}</td>" in page for owner in ours)
