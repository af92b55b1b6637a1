"""What a replica dies over, and whose connection is paused before another replica has it, is looked up all the same."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from sync.demo.simulator import Hang, Operation
from sync.fleet.tokens import TokenBox, TokenOf
from tests.fleet.replicas import ADD, Fleet, served, token_of, until_done
from tests.support.daemon import PATIENCE_S

SOON = {"SYNC_LEASE_S": "3", "SYNC_SETTLE_AFTER_S": "1"}
NAME = "hotel-0"


def add_group(fleet: Fleet) -> None:
    """A portfolio token that sees the hotel too, and one of its own."""
    fleet.mirror.add_voucher()
    mirror, token = fleet.mirror, token_of("group")
    mirror.world.add_token(token, name="group", portfolio=True, enterprise_ids=[mirror.hotel.id, fleet.hotel_ids[NAME]])
    ciphertext = TokenBox([fleet.key]).encrypt(token, TokenOf("group", mirror.address, "access"))
    with psycopg.connect(mirror.database_url, autocommit=True) as connection:
        connection.execute(ADD.encode(), ["group", mirror.address, ciphertext])


@pytest.mark.long
async def test_it_goes_by_another_connection_that_sees_the_hotel(database_url: str, tmp_path: Path) -> None:
    async with served(database_url, tmp_path, 1, takes_doubles=True) as fleet:
        is_sent = asyncio.Event()
        async with fleet.replica(**SOON) as first:
            await fleet.all_pulled()
            add_group(fleet)
            await fleet.all_pulled(["group"])
            fleet.mirror.simulator.faults.script(Operation.ADD_CODES, Hang(processed=True))

            async def note(operation: Operation, _body: object) -> None:
                if operation is Operation.ADD_CODES:
                    is_sent.set()

            fleet.mirror.simulator.on_request = note
            fleet.queue(NAME, "NEW")
            async with asyncio.timeout(PATIENCE_S):
                await is_sent.wait()
            first.process.kill()
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("UPDATE sync.connections SET paused_at = now() WHERE name = %s", [NAME])
        async with fleet.replica(**SOON):
            await until_done(database_url)
        assert fleet.made()["NEW"] == 1
