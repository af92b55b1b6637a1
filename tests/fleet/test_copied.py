"""A copy of the database beside the original, each with a replica that has the tokens of all hotels (invariant 14)."""

from pathlib import Path

import pytest

from sync.demo.simulator import Operation
from tests.fleet.calls import Calls, now_s
from tests.fleet.replicas import served, until_done
from tests.support.dump import copy_of

HOTELS = 2
WRITES = {Operation.ADD_CODES, Operation.DELETE_CODES}


@pytest.mark.long
@pytest.mark.direct
async def test_a_copy_reads_every_hotel_and_writes_to_none_while_the_original_goes_on(
    database_url: str, tmp_path: Path
) -> None:
    async with served(database_url, tmp_path, HOTELS, takes_doubles=True) as fleet:
        calls = Calls(fleet.mirror.simulator)
        async with fleet.replica():
            await calls.until_pulled(fleet.vouchers, now_s())
        for name in fleet.vouchers:
            fleet.queue(name, f"{name}-before")
        with copy_of(database_url, tmp_path / "dump") as copy:
            elsewhere = {"DATABASE_URL": copy, "SYNC_LISTEN_URL": copy, "SYNC_STATE_DIR": str(tmp_path / "state")}
            async with fleet.replica(MEWS_CLIENT="copy", **elsewhere) as daemon, fleet.replica(MEWS_CLIENT="original"):
                await daemon.event("gap")
                await calls.until_pulled(fleet.vouchers, now_s(), but="original")
                for name in fleet.vouchers:
                    fleet.queue(name, f"{name}-after")
                await until_done(database_url)
                await calls.until_pulled(fleet.vouchers, now_s(), but="original")
    assert {call.client for call in calls.seen if call.operation in WRITES} == {"original"}
    assert fleet.made() == {f"{name}-{when}": 1 for name in fleet.vouchers for when in ("before", "after")}
