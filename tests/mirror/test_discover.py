"""Discovery finds what a token can see, and writes only what differs."""

import json
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from sync.demo.simulator import Enterprise, Operation, RawBody, Voucher
from sync.demo.simulator.entities import Assignment
from tests.support.flows import add_hotel, add_voucher_to, footprint, ids, later
from tests.support.mirror import ACCESS_TOKEN, Mirror


async def assigned(mirror: Mirror) -> set[tuple[UUID, UUID]]:
    rows = await mirror.rows("SELECT voucher_id, rate_id FROM mews.voucher_assignments")
    return {(row["voucher_id"], row["rate_id"]) for row in rows}


async def known_vouchers(mirror: Mirror) -> set[UUID]:
    return {row["id"] for row in await mirror.rows("SELECT id FROM mews.vouchers")}


async def test_a_plain_token_finds_its_hotel_with_services_and_vouchers(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    report = await mirror.discover()
    assert (report.enterprises, report.services, report.vouchers, report.written) == (1, 1, 1, 3)
    (hotel,) = await mirror.rows("SELECT id, name, time_zone, connection FROM mews.enterprises")
    assert tuple(hotel.values()) == (mirror.hotel.id, "Hotel A", "Europe/Prague", "default")
    (service,) = await mirror.rows("SELECT id, enterprise_id, name, type, is_active FROM mews.services")
    assert tuple(service.values()) == (mirror.service.id, mirror.hotel.id, "Stay", "Bookable", True)
    (row,) = await mirror.rows("SELECT id, service_id, enterprise_id, name, type, created_utc FROM mews.vouchers")
    assert tuple(row.values()) == (
        voucher.id, mirror.service.id, mirror.hotel.id, "Summer", "Public", voucher.created_utc,
    )  # fmt: skip


async def test_a_portfolio_token_finds_all_its_hotels_and_no_other(mirror: Mirror) -> None:
    own = mirror.add_voucher()
    (_, winter), (_, spring) = add_hotel(mirror, "Hotel B"), add_hotel(mirror, "Hotel C", visible=False)
    second = add_voucher_to(mirror, winter)
    add_voucher_to(mirror, spring)
    report = await mirror.discover()
    assert (report.enterprises, report.services, report.vouchers) == (2, 2, 2)
    assert await known_vouchers(mirror) == {own.id, second.id}


async def test_a_token_without_any_hotel_finds_nothing_and_is_no_error(mirror: Mirror) -> None:
    mirror.world.withdraw("the-access-token", mirror.hotel.id)
    report = await mirror.discover()
    assert (report.enterprises, report.services, report.vouchers, report.written) == (0, 0, 0, 0)
    assert not mirror.requests(Operation.GET_SERVICES)


async def test_a_deleted_voucher_counts_and_its_codes_are_mirrored(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A", "B"])
    mirror.world.deactivate_voucher(voucher.id)
    await mirror.once()
    (row,) = await mirror.rows("SELECT is_active FROM mews.vouchers")
    assert row["is_active"] is False
    comparison = await mirror.compare()
    assert comparison.is_equal
    assert comparison.equal == 2


async def test_a_voucher_that_is_changed_is_changed_in_the_mirror(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    await mirror.discover()
    changed = msgspec.structs.replace(voucher, name="Autumn", external_identifier="X-1", updated_utc=mirror.world.now())
    mirror.world.put_voucher(changed)
    assert (await mirror.discover()).written == 1
    (row,) = await mirror.rows("SELECT name, external_identifier FROM mews.vouchers")
    assert tuple(row.values()) == ("Autumn", "X-1")


async def test_assignments_are_added_and_removed(mirror: Mirror) -> None:
    first, second, third = (mirror.world.new_id() for _ in range(3))
    voucher = mirror.world.add_voucher(mirror.service.id, "Summer", rate_ids=[first, second])
    other = mirror.world.add_voucher(mirror.service.id, "Winter", rate_ids=[first])
    await mirror.discover()
    assert await assigned(mirror) == {(voucher.id, first), (voucher.id, second), (other.id, first)}

    mirror.world.assignments[voucher.id] = [
        Assignment(id=mirror.world.new_id(), voucher_id=voucher.id, rate_id=rate) for rate in (second, third)
    ]
    assert (await mirror.discover()).written == 2
    assert await assigned(mirror) == {(voucher.id, second), (voucher.id, third), (other.id, first)}

    mirror.world.assignments.clear()
    assert (await mirror.discover()).written == 3
    assert await assigned(mirror) == set()


async def test_a_voucher_that_hides_its_hotel_gets_that_of_its_service(mirror: Mirror) -> None:
    voucher = {"Id": str(mirror.world.new_id()), "ServiceId": str(mirror.service.id), "IsActive": True}
    body = json.dumps({"Vouchers": [voucher], "Cursor": voucher["Id"]}).encode()
    mirror.simulator.faults.script(Operation.GET_VOUCHERS, RawBody(body))
    await mirror.discover()
    (row,) = await mirror.rows("SELECT enterprise_id FROM mews.vouchers")
    assert row["enterprise_id"] == mirror.hotel.id


@pytest.mark.long
async def test_a_voucher_that_cannot_be_stored_stands_bare_beside_the_others(mirror: Mirror) -> None:
    good = {"Id": str(mirror.world.new_id()), "ServiceId": str(mirror.service.id), "IsActive": True}
    bad = good | {"Id": str(mirror.world.new_id()), "Name": "a\x00b"}
    body = json.dumps({"Vouchers": [bad, good], "Cursor": good["Id"]}).encode()
    mirror.simulator.faults.script(Operation.GET_VOUCHERS, RawBody(body), times=2)
    assert (await mirror.discover()).rejected == 1
    assert (await mirror.discover()).rejected == 0
    assert await known_vouchers(mirror) == {UUID(str(good["Id"])), UUID(str(bad["Id"]))}
    (row,) = await mirror.rows("SELECT kind, record_id FROM sync.rejected_records")
    assert tuple(row.values()) == ("Vouchers", bad["Id"])


async def test_an_unchanged_discovery_writes_nothing(mirror: Mirror) -> None:
    mirror.world.add_voucher(mirror.service.id, "Summer", rate_ids=[mirror.world.new_id()])
    mirror.world.add_service(mirror.hotel.id, "Restaurant", carries_vouchers=False)
    await mirror.discover()
    before = await footprint(mirror)
    report = await mirror.discover()
    assert (report.written, report.vouchers) == (0, 1)
    assert await footprint(mirror) == before


async def test_more_than_1000_services_are_asked_in_groups(mirror: Mirror) -> None:
    services = [mirror.world.add_service(mirror.hotel.id, f"Stay {number}") for number in range(1000)]
    first, last = (add_voucher_to(mirror, service) for service in (services[0], services[-1]))
    report = await mirror.discover()
    assert (report.services, report.vouchers) == (1001, 2)
    groups = [ids(record, "ServiceIds") for record in mirror.requests(Operation.GET_VOUCHERS)]
    assert [len(group) for group in groups] == [1000, 1]
    assert set.union(*groups) == {mirror.service.id, *(service.id for service in services)}
    assert await known_vouchers(mirror) == {first.id, last.id}


async def test_more_vouchers_than_fit_a_page_are_all_found(mirror: Mirror) -> None:
    vouchers = {mirror.add_voucher(f"Voucher {number}", days_old=number / 10).id for number in range(2001)}
    assert (await mirror.discover()).vouchers == 2001
    assert await known_vouchers(mirror) == vouchers
    assert len(mirror.requests(Operation.GET_VOUCHERS)) == 3


@pytest.mark.long
async def test_a_new_voucher_and_its_codes_are_mirrored_from_the_next_discovery_on(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    await mirror.once()
    mirror.world.add_codes(mirror.world.add_voucher(mirror.service.id, "Flash").id, ["B"])
    await later(mirror)
    assert (await mirror.compare()).is_equal


async def hotel_that_is_lost(mirror: Mirror, vouchers: int) -> tuple[Enterprise, list[Voucher]]:
    """A hotel whose vouchers are mirrored and which the token then no longer sees, with changes that it misses."""
    hotel, service = add_hotel(mirror, "Hotel B")
    mirror.add_codes(mirror.add_voucher(), ["A"])
    lost = [add_voucher_to(mirror, service, f"Lost {number}", days_old=400) for number in range(vouchers)]
    for voucher in lost:
        mirror.add_codes(voucher, [f"{voucher.id}"], days_old=300)
    await mirror.once()
    mirror.world.withdraw(ACCESS_TOKEN, hotel.id)
    for voucher in lost:
        mirror.world.add_codes(voucher.id, [f"{voucher.id}-new"])
    return hotel, lost


@pytest.mark.long
async def test_vouchers_that_are_no_longer_listed_are_left_out_without_a_refused_call(mirror: Mirror) -> None:
    _, lost = await hotel_that_is_lost(mirror, vouchers=100)
    mirror.clock.advance(timedelta(seconds=2))
    assert set((await mirror.discover()).unlisted) == {voucher.id for voucher in lost}
    report = await mirror.pull()
    assert (report.errors, report.refused) == ([], [])
    assert {record.status for record in mirror.requests()} == {200}
    assert (await mirror.discover()).unlisted == []
    rows = await mirror.rows("SELECT voucher_id FROM mews.coverage WHERE skipped_because LIKE '%no longer lists it'")
    assert {row["voucher_id"] for row in rows} == {voucher.id for voucher in lost}


@pytest.mark.long
async def test_more_vouchers_than_a_statement_has_parameters_for_are_left_out_at_once(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    await mirror.once()
    await mirror.execute(
        "INSERT INTO mews.vouchers (id, service_id, is_active, connection) "
        "SELECT gen_random_uuid(), gen_random_uuid(), true, 'default' FROM generate_series(1, 11000)"
    )
    assert len((await mirror.discover()).unlisted) == 11_000
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_vouchers_that_are_listed_again_go_on_from_where_they_were(mirror: Mirror) -> None:
    hotel, _ = await hotel_that_is_lost(mirror, vouchers=3)
    await later(mirror)
    mirror.world.grant(ACCESS_TOKEN, hotel.id)
    await later(mirror)
    assert (await mirror.compare()).is_equal
    assert (await mirror.compare()).equal == 7
    assert await mirror.rows("SELECT FROM mews.coverage WHERE skipped_because IS NOT NULL") == []


@pytest.mark.long
async def test_a_voucher_that_is_lost_in_its_backfill_and_comes_back_is_mirrored_whole(mirror: Mirror) -> None:
    hotel, service = add_hotel(mirror, "Hotel B")
    stays, goes = mirror.add_voucher(days_old=900), add_voucher_to(mirror, service, days_old=900)
    for voucher in (stays, goes):
        for days_old in range(5, 900, 50):
            mirror.add_codes(voucher, [f"{voucher.id}-{days_old}"], days_old=days_old)
    await mirror.discover()
    turns = iter([False] * 6)
    await mirror.pull(is_turn_over=lambda: next(turns, True))
    assert await mirror.rows("SELECT FROM sync.windows")
    mirror.world.withdraw(ACCESS_TOKEN, hotel.id)
    await later(mirror)
    mirror.world.grant(ACCESS_TOKEN, hotel.id)
    await later(mirror)
    assert (await mirror.compare()).is_equal


async def test_a_record_that_cannot_be_stored_hides_nothing_that_hangs_on_it(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), ["A"])
    mirror.world.enterprises[mirror.hotel.id] = msgspec.structs.replace(mirror.hotel, name="a\x00b")
    mirror.world.services[mirror.service.id] = msgspec.structs.replace(mirror.service, name="a\x00b")
    report = await mirror.discover()
    assert (report.rejected, report.vouchers, report.unlisted) == (2, 1, [])
    await mirror.pull()
    assert (await mirror.compare()).equal == 1


@pytest.mark.long
async def test_an_unreadable_voucher_that_was_mirrored_before_is_still_pulled(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    mirror.world.put_voucher(msgspec.structs.replace(voucher, name="a\x00b"))
    mirror.world.add_codes(voucher.id, ["A"])
    await later(mirror)
    assert (await mirror.compare()).is_equal
