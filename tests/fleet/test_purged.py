"""A connection that was purged is gone, whatever whoever worked for it until then has still to note."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection import store
from sync.core.errors import VoucherSyncError
from sync.fleet import changes
from sync.fleet.purge import purge
from sync.fleet.registry import register_environment
from sync.mews.records import Rejected
from sync.mirror import rejected
from sync.mirror.discover import discover
from sync.mirror.pull import PullSettings, pull
from sync.mirror.upsert import store_voucher_codes
from sync.mirror.watermarks import CaughtUp
from sync.postgres.engine import in_transaction, transaction
from sync.service import states
from sync.service.states import Standing
from tests.fleet.test_registry import STORED
from tests.mirror.helpers import NEW, OLD
from tests.support.database import CONNECTION, PATIENCE_S, blocked, code
from tests.support.flows import add_voucher_to
from tests.support.mirror import ACCESS_TOKEN, OVERLAP, Mirror
from tests.support.two_tokens import second

KEEPER = "CREATE FUNCTION public.keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"


async def test_what_is_noted_of_it_later_does_not_make_it_anew(engine: AsyncEngine, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(STORED)
        await in_transaction(engine, lambda tx: changes.remove(tx, "lake"))
        await purge(engine, "lake")

        async def note(tx: AsyncConnection) -> None:
            await states.note(tx, "lake", Standing("it fails", "ApiError"))
            await states.note_caught_up(tx, "lake", CaughtUp(datetime.now(UTC), datetime.now(UTC)))
            await store.remember(tx, "lake", "https://api.mews.com", b"token", [], is_stored=True)

        await in_transaction(engine, note)
        assert connection.execute("SELECT name FROM sync.connections").fetchall() == []
        assert connection.execute("SELECT connection FROM sync.outages").fetchall() == []


async def test_a_page_that_is_stored_while_it_is_purged_goes_with_the_rest(mirror: Mirror) -> None:
    hotel = mirror.world.add_enterprise("Hotel B")
    voucher = add_voucher_to(mirror, mirror.world.add_service(hotel.id, "Stay"))
    async with second(mirror, "lake", [hotel.id]) as lake:
        await discover(lake)
        page = [code(number, voucher_id=voucher.id) for number in range(3)]
        await in_transaction(lake.engine, lambda tx: changes.remove(tx, "lake"))
        async with transaction(lake.engine) as tx:
            await store_voucher_codes(tx, "lake", page)
            purging = asyncio.create_task(purge(lake.engine, "lake"))
            await blocked(lake.engine, purging)
        assert await purging == len(page)
        assert await mirror.rows("SELECT id FROM mews.voucher_codes") == []
        with pytest.raises(VoucherSyncError, match="was removed with all that it had mirrored"):
            await in_transaction(lake.engine, lambda tx: store_voucher_codes(tx, "lake", page))
    assert await mirror.rows("SELECT id FROM mews.voucher_codes") == []


async def test_a_version_that_a_page_ends_while_it_is_purged_goes_with_the_rest(mirror: Mirror) -> None:
    hotel = mirror.world.add_enterprise("Hotel B")
    voucher = add_voucher_to(mirror, mirror.world.add_service(hotel.id, "Stay"))
    async with second(mirror, "lake", [hotel.id]) as lake:
        await discover(lake)
        await in_transaction(
            lake.engine, lambda tx: store_voucher_codes(tx, "lake", [code(1, "A", OLD, voucher_id=voucher.id)])
        )
        await in_transaction(lake.engine, lambda tx: changes.remove(tx, "lake"))
        async with transaction(lake.engine) as tx:
            await store_voucher_codes(tx, "lake", [code(1, "A", NEW, is_active=False, voucher_id=voucher.id)])
            purging = asyncio.create_task(purge(lake.engine, "lake"))
            await blocked(lake.engine, purging)
        assert await purging == 1
    assert await mirror.rows("SELECT voucher_code_id FROM mews.voucher_code_history") == []


async def test_a_page_of_a_purged_hotel_is_refused_though_another_one_of_its_connection_stays(mirror: Mirror) -> None:
    """What others see of a connection stays with it until they take it over, and its row with that."""
    hotel, shared = mirror.world.add_enterprise("Hotel B"), mirror.world.add_enterprise("Hotel C")
    voucher, theirs = (add_voucher_to(mirror, mirror.world.add_service(one.id, "Stay")) for one in (hotel, shared))
    page = [code(1, voucher_id=voucher.id)]
    async with second(mirror, "lake", [hotel.id, shared.id]) as lake, second(mirror, "sea", [shared.id]) as sea:
        await discover(lake)
        await discover(sea)
        await in_transaction(lake.engine, lambda tx: changes.remove(tx, "lake"))
        await purge(lake.engine, "lake")
        assert await mirror.rows("SELECT id FROM mews.vouchers") == [{"id": theirs.id}]
        with pytest.raises(VoucherSyncError, match="was removed with all that it had mirrored"):
            await in_transaction(lake.engine, lambda tx: store_voucher_codes(tx, "lake", page))
        assert await mirror.rows("SELECT id FROM mews.voucher_codes") == []
        await discover(sea)
        assert await mirror.rows("SELECT id, connection FROM mews.vouchers") == [{"id": theirs.id, "connection": "sea"}]
        await purge(lake.engine, "lake")
    assert await mirror.rows("SELECT name FROM sync.connections WHERE name = 'lake'") == []


async def test_a_record_that_cannot_be_read_is_kept_of_no_connection_that_was_purged(
    engine: AsyncEngine, database_url: str
) -> None:
    """As the only one of a page, whose text may be a code's."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(STORED)
        await in_transaction(engine, lambda tx: changes.remove(tx, "lake"))
        await purge(engine, "lake")
        records = [Rejected("VoucherCodes", "1", '{"Id": "1", "Value": "GUEST"}', "Id: is no uuid")]
        with pytest.raises(VoucherSyncError, match="was removed with all that it had mirrored"):
            await in_transaction(engine, lambda tx: rejected.keep(tx, "lake", records))
        assert connection.execute("SELECT raw FROM sync.rejected_records").fetchall() == []


async def test_nor_is_one_taken_of_the_environments_connection_until_its_tokens_are_there_again(mirror: Mirror) -> None:
    sea_hotel, own = mirror.hotel, mirror.world.add_enterprise("Hotel B")
    mirror.world.add_token(ACCESS_TOKEN, name="token", portfolio=True, enterprise_ids=[sea_hotel.id, own.id])
    voucher, theirs = (add_voucher_to(mirror, mirror.world.add_service(one.id, "Stay")) for one in (own, sea_hotel))
    page = [code(1, voucher_id=voucher.id)]
    engine = mirror.connection.engine
    async with second(mirror, "sea", [sea_hotel.id]) as sea:
        await mirror.discover()
        await discover(sea)
        await in_transaction(engine, lambda tx: changes.remove(tx, CONNECTION))
        await purge(engine, CONNECTION)
        assert await mirror.rows("SELECT id FROM mews.vouchers") == [{"id": theirs.id}]
        with pytest.raises(VoucherSyncError, match="was removed with all that it had mirrored"):
            await in_transaction(engine, lambda tx: store_voucher_codes(tx, CONNECTION, page))
        await in_transaction(engine, register_environment)
        await in_transaction(engine, lambda tx: store_voucher_codes(tx, CONNECTION, page))


async def test_codes_that_a_trigger_keeps_end_a_purge_with_its_cause(mirror: Mirror) -> None:
    hotel = mirror.world.add_enterprise("Hotel B")
    mirror.add_codes(add_voucher_to(mirror, mirror.world.add_service(hotel.id, "Stay")), ["A", "B"])
    async with second(mirror, "lake", [hotel.id]) as lake:
        await discover(lake)
        await pull(lake, PullSettings(OVERLAP))
        await in_transaction(lake.engine, lambda tx: changes.remove(tx, "lake"))
        await mirror.execute(KEEPER)
        await mirror.execute(
            "CREATE TRIGGER keep BEFORE DELETE ON mews.voucher_codes FOR EACH ROW EXECUTE FUNCTION public.keep()"
        )
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(VoucherSyncError, match="leaves them there"):
                await purge(lake.engine, "lake")
        await mirror.execute("DROP TRIGGER keep ON mews.voucher_codes")
        assert await purge(lake.engine, "lake") == 2
