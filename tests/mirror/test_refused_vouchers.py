"""What the API refuses to read is found by halving, remembered with its words, and never stops the others."""

import msgspec
import pytest

from sync.core.api_errors import ApiError
from sync.demo.simulator import Operation, Service, Status, Voucher
from tests.support.flows import (
    a_day_passes_for_refusals,
    add_hotel,
    add_voucher_to,
    ids,
    later,
    note_caught_up,
    numbered,
    pull_later,
    skipped,
)
from tests.support.mirror import ACCESS_TOKEN, Mirror


def mixed_services(mirror: Mirror, good: int, bad: int) -> tuple[list[Service], list[Service]]:
    """Services, some of which cannot carry vouchers."""
    able = [mirror.world.add_service(mirror.hotel.id, f"Stay {number}") for number in range(good)]
    unable = [
        mirror.world.add_service(mirror.hotel.id, f"Bar {number}", carries_vouchers=False) for number in range(bad)
    ]
    return able, unable


@pytest.mark.long
async def test_services_that_cannot_carry_vouchers_never_stop_the_others(mirror: Mirror) -> None:
    able, unable = mixed_services(mirror, good=40, bad=7)
    vouchers = {add_voucher_to(mirror, service).id for service in able}
    report = await mirror.discover()
    assert set(report.refused) == {service.id for service in unable}
    assert report.vouchers == 40
    assert {row["id"] for row in await mirror.rows("SELECT id FROM mews.vouchers")} == vouchers


async def test_a_refused_service_is_remembered_with_the_words_of_the_api(mirror: Mirror) -> None:
    _, (bar,) = mixed_services(mirror, good=3, bad=1)
    await mirror.discover()
    alone = [one for one in mirror.requests(Operation.GET_VOUCHERS) if ids(one, "ServiceIds") == {bar.id}]
    row = (await skipped(mirror))[bar.id]
    assert (row["connection"], row["kind"], row["reason"]) == ("default", "service", "Invalid ServiceIds")
    assert [row["request_id"]] == [record.request_id for record in alone]


async def test_a_refused_service_is_not_asked_again_the_same_day(mirror: Mirror) -> None:
    _, unable = mixed_services(mirror, good=3, bad=2)
    await mirror.discover()
    before = len(mirror.requests(Operation.GET_VOUCHERS))
    report = await mirror.discover()
    (record,) = mirror.requests(Operation.GET_VOUCHERS)[before:]
    assert ids(record, "ServiceIds").isdisjoint(service.id for service in unable)
    assert not report.refused


@pytest.mark.long
async def test_a_refused_service_is_asked_again_after_a_day(mirror: Mirror) -> None:
    _, (bar,) = mixed_services(mirror, good=3, bad=1)
    await mirror.discover()
    await a_day_passes_for_refusals(mirror)
    shifted = (await skipped(mirror))[bar.id]["since"]
    assert (await mirror.discover()).refused == [bar.id]
    assert (await skipped(mirror))[bar.id]["since"] > shifted

    await a_day_passes_for_refusals(mirror)
    mirror.world.services[bar.id] = msgspec.structs.replace(bar, carries_vouchers=True)
    mirror.world.add_codes(add_voucher_to(mirror, bar).id, ["A"])
    await later(mirror)
    assert (await mirror.compare()).is_equal
    assert (await mirror.compare()).equal == 1


async def test_a_hotel_whose_services_are_all_refused_is_no_error(mirror: Mirror) -> None:
    mirror.world.services[mirror.service.id] = msgspec.structs.replace(mirror.service, carries_vouchers=False)
    report = await mirror.discover()
    assert (report.refused, report.vouchers) == ([mirror.service.id], 0)
    assert (await mirror.pull()).errors == []


async def two_hotels(mirror: Mirror, here: int, there: int) -> tuple[list[Voucher], list[Voucher]]:
    """Vouchers of a hotel that stays visible and of one that is withdrawn once they are mirrored."""
    hotel, service = add_hotel(mirror, "Hotel B")
    stays = [mirror.add_voucher(f"Stays {number}", days_old=400) for number in range(here)]
    goes = [add_voucher_to(mirror, service, f"Goes {number}", days_old=400) for number in range(there)]
    for voucher in (*stays, *goes):
        mirror.add_codes(voucher, numbered(3, str(voucher.id)), days_old=300)
    await mirror.once()
    mirror.world.withdraw(ACCESS_TOKEN, hotel.id)
    for voucher in (*stays, *goes):
        mirror.world.add_codes(voucher.id, [f"{voucher.id}-new"])
    return stays, goes


@pytest.mark.long
async def test_a_refused_voucher_is_found_remembered_and_reported_and_the_others_go_through(mirror: Mirror) -> None:
    _, goes = await two_hotels(mirror, here=50, there=2)
    report = await pull_later(mirror)
    assert report.errors == []
    assert set(report.refused) == {voucher.id for voucher in goes}
    rows = await skipped(mirror)
    assert {(row["id"], row["kind"], row["reason"]) for row in rows.values()} == {
        (voucher.id, "voucher", "Invalid VoucherIds") for voucher in goes
    }
    assert {row["request_id"] for row in rows.values()} <= {record.request_id for record in mirror.requests()}
    comparison = await mirror.compare()
    assert (comparison.differing, comparison.only_there) == (0, 0)


@pytest.mark.long
async def test_a_refused_voucher_is_not_asked_again_the_same_day_and_catches_up_after_it(mirror: Mirror) -> None:
    _, (gone,) = await two_hotels(mirror, here=5, there=1)
    await pull_later(mirror)
    before = len(mirror.requests())
    await pull_later(mirror)
    assert all(gone.id not in ids(record) for record in mirror.requests()[before:])

    mirror.world.grant(ACCESS_TOKEN, gone.enterprise_id)
    await pull_later(mirror)
    assert (await mirror.compare()).only_there == 1
    await a_day_passes_for_refusals(mirror)
    await pull_later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_voucher_that_is_refused_before_its_first_pull_does_not_stop_the_backfill(mirror: Mirror) -> None:
    hotel, service = add_hotel(mirror, "Hotel B")
    vouchers = [mirror.add_voucher(f"Stays {number}", days_old=1000) for number in range(9)]
    gone = add_voucher_to(mirror, service, days_old=1000)
    for days_old in range(10, 1000, 60):
        for voucher in (*vouchers, gone):
            mirror.add_codes(voucher, [f"{voucher.id}-{days_old}"], days_old=days_old)
    await mirror.discover()
    mirror.world.withdraw(ACCESS_TOKEN, hotel.id)
    report = await mirror.pull()
    assert (report.errors, report.refused) == ([], [gone.id])
    assert report.windows_done == report.windows_planned
    assert (await mirror.compare()).is_equal


async def test_vouchers_that_are_refused_all_together_end_their_plan(mirror: Mirror) -> None:
    hotel, service = add_hotel(mirror, "Hotel B")
    gone = add_voucher_to(mirror, service, days_old=1000)
    await mirror.discover()
    mirror.world.withdraw(ACCESS_TOKEN, hotel.id)
    report = await mirror.pull()
    assert (report.errors, report.refused) == ([], [gone.id])
    assert await mirror.rows("SELECT FROM sync.plans") == []


@pytest.mark.long
async def test_a_hotel_that_is_refused_as_a_whole_is_found_voucher_by_voucher(mirror: Mirror) -> None:
    _, goes = await two_hotels(mirror, here=200, there=100)
    report = await pull_later(mirror)
    assert (report.errors, set(report.refused)) == ([], {voucher.id for voucher in goes})
    comparison = await mirror.compare()
    assert (comparison.differing, comparison.only_there) == (0, 0)
    assert set(await skipped(mirror)) == {voucher.id for voucher in goes}


@pytest.mark.long
async def test_a_refusal_of_everything_is_an_error_and_refuses_no_voucher(mirror: Mirror) -> None:
    for number in range(100):
        mirror.add_codes(mirror.add_voucher(f"Voucher {number}"), [f"A-{number}"])
    await mirror.discover()
    mirror.simulator.faults.script(Operation.GET_CODES, Status(400, "Invalid UpdatedUtc"), times=500)
    report = await mirror.pull()
    assert ([error.status for error in report.errors if isinstance(error, ApiError)], report.refused) == ([400], [])
    mirror.simulator.faults.stop()
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
@pytest.mark.parametrize("vouchers", [1, 3])
async def test_a_refusal_of_everything_refuses_no_voucher_of_a_small_hotel_either(
    mirror: Mirror, vouchers: int
) -> None:
    for number in range(vouchers):
        mirror.add_codes(mirror.add_voucher(f"Voucher {number}"), [f"A-{number}"])
    await mirror.discover()
    mirror.simulator.faults.script(Operation.GET_CODES, Status(400, "Invalid UpdatedUtc"), times=500)
    report = await mirror.pull()
    assert report.refused == []
    assert [error.status for error in report.errors if isinstance(error, ApiError)] == [400]


async def test_a_voucher_that_the_api_comes_to_know_while_it_is_searched_for_is_refused_by_nobody(
    mirror: Mirror,
) -> None:
    for number in range(3):
        mirror.add_codes(mirror.add_voucher(f"Voucher {number}"), [f"A-{number}"])
    await mirror.discover()
    mirror.simulator.faults.script(Operation.GET_CODES, Status(400, "Invalid VoucherIds"))
    report = await mirror.pull()
    assert [error.status for error in report.errors if isinstance(error, ApiError)] == [400]
    assert (report.refused, await skipped(mirror)) == ([], {})
    assert (await mirror.pull()).errors == []
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_coverage_never_counts_a_skipped_voucher_as_caught_up(mirror: Mirror) -> None:
    _, (gone,) = await two_hotels(mirror, here=3, there=1)
    await later(mirror)
    await note_caught_up(mirror, await later(mirror))
    lags = {row["voucher_id"]: row["complete_through"] for row in await mirror.rows("SELECT * FROM mews.coverage")}
    through = lags.pop(gone.id)
    assert all(through < other for other in lags.values())

    mirror.world.grant(ACCESS_TOKEN, gone.enterprise_id)
    await mirror.discover()
    (row,) = await mirror.rows("SELECT * FROM mews.coverage WHERE voucher_id = :id", id=gone.id)
    assert (row["complete_through"], row["skipped_because"]) == (through, None)
    await note_caught_up(mirror, await pull_later(mirror))
    await note_caught_up(mirror, await pull_later(mirror))
    (row,) = await mirror.rows("SELECT * FROM mews.coverage WHERE voucher_id = :id", id=gone.id)
    assert row["complete_through"] >= min(lags.values())
