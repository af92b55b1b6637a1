"""What the four listings show, and to whom."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from tests.simulator.helpers import PORTFOLIO, START, Stage

LIMIT: dict[str, Any] = {"Limitation": {"Count": 1000}}
STAMP = "2026-03-01T12:00:00Z"


async def listed(stage: Stage, operation: str, name: str, **properties: Any) -> list[dict[str, Any]]:
    answer = await stage.call(operation, **(LIMIT | properties))
    assert answer.status_code == 200, answer.text
    records: list[dict[str, Any]] = answer.json()[name]
    return records


async def vouchers(stage: Stage, **properties: Any) -> list[dict[str, Any]]:
    defaults = {"Extent": {"Vouchers": True}, "ServiceIds": [str(stage.service.id)]}
    return await listed(stage, "vouchers/getAll", "Vouchers", **(defaults | properties))


async def test_a_plain_token_sees_its_hotel(stage: Stage) -> None:
    assert await listed(stage, "enterprises/getAll", "Enterprises") == [
        {
            "Id": str(stage.hotel.id),
            "Name": "Hotel A",
            "TimeZoneIdentifier": "Europe/Prague",
            "CreatedUtc": STAMP,
            "UpdatedUtc": STAMP,
        }
    ]


async def test_a_portfolio_token_sees_its_hotels_until_one_is_withdrawn(stage: Stage) -> None:
    async def names(**properties: Any) -> set[str]:
        records = await listed(stage, "enterprises/getAll", "Enterprises", token=PORTFOLIO, **properties)
        return {record["Name"] for record in records}

    assert await names() == {"Hotel A", "Hotel B"}
    assert await names(EnterpriseIds=[str(stage.other_hotel.id)]) == {"Hotel B"}
    stage.world.withdraw(PORTFOLIO, stage.other_hotel.id)
    assert await names() == {"Hotel A"}


async def test_services_are_filtered_by_hotel_id_and_type(stage: Stage) -> None:
    async def ids(**properties: Any) -> set[str]:
        return {record["Id"] for record in await listed(stage, "services/getAll", "Services", **properties)}

    stay, food, other = (str(service.id) for service in (stage.service, stage.restaurant, stage.other_service))
    assert await ids() == {stay, food}
    assert await ids(token=PORTFOLIO) == {stay, food, other}
    assert await ids(token=PORTFOLIO, EnterpriseIds=[str(stage.other_hotel.id)]) == {other}
    assert await ids(ServiceType="Additional") == {food}
    assert await ids(ServiceIds=[stay]) == {stay}


async def test_a_service_tells_its_type_and_not_whether_it_carries_vouchers(stage: Stage) -> None:
    [service] = await listed(stage, "services/getAll", "Services", ServiceType="Additional")
    assert service == {
        "Id": str(stage.restaurant.id),
        "EnterpriseId": str(stage.hotel.id),
        "IsActive": True,
        "Names": {"en-US": "Restaurant"},
        "Data": {"Discriminator": "Additional"},
        "CreatedUtc": STAMP,
        "UpdatedUtc": STAMP,
    }


async def test_a_voucher_is_shown_whole(stage: Stage) -> None:
    company = uuid4()
    stage.world.put_voucher(
        msgspec.structs.replace(stage.voucher, type="PartnerCompany", company_id=company, external_identifier="X-1")
    )
    [voucher] = await vouchers(stage)
    assert voucher == {
        "Id": str(stage.voucher.id),
        "ServiceId": str(stage.service.id),
        "EnterpriseId": str(stage.hotel.id),
        "Name": "Summer 2026",
        "Type": "PartnerCompany",
        "CompanyId": str(company),
        "TravelAgencyId": None,
        "OccupiableIntervalStartUtc": None,
        "OccupiableIntervalEndUtc": None,
        "ExternalIdentifier": "X-1",
        "CreatedUtc": STAMP,
        "UpdatedUtc": STAMP,
        "IsActive": True,
        "ActivityState": "Active",
    }


async def test_deleted_vouchers_are_listed_unless_the_states_say_otherwise(stage: Stage) -> None:
    gone = stage.world.deactivate_voucher(stage.world.add_voucher(stage.service.id, "Gone").id)

    async def names(**properties: Any) -> set[str]:
        return {voucher["Name"] for voucher in await vouchers(stage, **properties)}

    assert await names() == {"Summer 2026", gone.name}
    assert await names(ActivityStates=["Active"]) == {"Summer 2026"}
    assert await names(ActivityStates=["Deleted"]) == {gone.name}
    assert await names(ActivityStates=["Active", "Deleted"]) == {"Summer 2026", gone.name}


async def test_vouchers_are_filtered_by_id_service_and_hotel(stage: Stage) -> None:
    second = stage.world.add_voucher(stage.service.id, "Second")
    both = {"token": PORTFOLIO, "ServiceIds": [str(stage.service.id), str(stage.other_service.id)]}

    async def names(**properties: Any) -> set[str]:
        return {voucher["Name"] for voucher in await vouchers(stage, **properties)}

    assert await names(VoucherIds=[str(second.id)]) == {"Second"}
    assert await names(**both) == {"Summer 2026", "Second", "Winter 2026"}
    assert await names(**both, EnterpriseIds=[str(stage.other_hotel.id)]) == {"Winter 2026"}


@pytest.mark.parametrize(
    ("extent", "lists"),
    [
        ({}, set()),
        ({"Vouchers": False}, set()),
        ({"Vouchers": True}, {"Vouchers"}),
        ({"VoucherAssignments": True}, {"VoucherAssignments"}),
        ({"Vouchers": True, "VoucherAssignments": True, "Rates": True}, {"Vouchers", "VoucherAssignments"}),
        ({"VoucherCodes": True, "Companies": True}, set()),
    ],
)
async def test_the_extent_decides_which_lists_there_are(stage: Stage, extent: dict[str, bool], lists: set[str]) -> None:
    answer = await stage.call("vouchers/getAll", Extent=extent, ServiceIds=[str(stage.service.id)], **LIMIT)
    assert set(answer.json()) == lists | {"Cursor"}
    assert answer.json()["Cursor"] == str(stage.voucher.id)


async def test_assignments_are_those_of_the_vouchers_on_the_page(stage: Stage) -> None:
    rates = [uuid4(), uuid4()]
    stage.time.advance(1)
    newest = stage.world.add_voucher(stage.service.id, "With rates", rate_ids=rates)
    stage.world.add_voucher(stage.service.id, "Older", rate_ids=[uuid4()], updated_utc=START)
    answer = await stage.call(
        "vouchers/getAll",
        Extent={"VoucherAssignments": True},
        ServiceIds=[str(stage.service.id)],
        Limitation={"Count": 1},
    )
    assigned = answer.json()["VoucherAssignments"]
    assert {(record["VoucherId"], record["RateId"]) for record in assigned} == {
        (str(newest.id), str(rate)) for rate in rates
    }


async def test_a_code_is_shown_whole_in_whole_seconds(stage: Stage) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC)
    [code] = stage.world.add_codes(
        stage.voucher.id,
        ["A"],
        validity_start_utc=moment,
        validity_end_utc=moment,
        created_utc=moment,
        updated_utc=moment,
        is_active=False,
    )
    stamp = "2026-01-02T03:04:05Z"
    assert (await stage.read()).json()["VoucherCodes"] == [
        {
            "Id": str(code.id),
            "VoucherId": str(stage.voucher.id),
            "Value": "A",
            "ValidityStartUtc": stamp,
            "ValidityEndUtc": stamp,
            "CreatedUtc": stamp,
            "UpdatedUtc": stamp,
            "IsActive": False,
            "ActivityState": "Deleted",
        }
    ]


async def test_nearly_everything_of_a_code_may_be_null(stage: Stage) -> None:
    stage.world.add_codes(stage.voucher.id, [None], created_utc=None, updated_utc=None)
    [code] = (await stage.read()).json()["VoucherCodes"]
    assert [name for name, value in code.items() if value is not None] == [
        "Id",
        "VoucherId",
        "IsActive",
        "ActivityState",
    ]


@pytest.mark.parametrize(
    ("activity", "shown"),
    [
        ("both", {"IsActive": True, "ActivityState": "Active"}),
        ("IsActive", {"IsActive": True}),
        ("ActivityState", {"ActivityState": "Active"}),
    ],
)
async def test_activity_is_shown_as_the_behaviour_says(stage: Stage, activity: Any, shown: dict[str, Any]) -> None:
    stage.add("A")
    stage.simulator.behaviour.activity = activity
    for record in (*(await stage.read()).json()["VoucherCodes"], *await vouchers(stage)):
        assert {name: record[name] for name in ("IsActive", "ActivityState") if name in record} == shown


async def test_codes_are_filtered_by_voucher_id_and_hotel(stage: Stage) -> None:
    [first, _] = stage.add("A", "B")
    second = stage.world.add_voucher(stage.service.id, "Second")
    stage.world.add_codes(second.id, ["C"])
    [other] = stage.world.add_codes(stage.other_voucher.id, ["D"])
    every = [str(voucher.id) for voucher in (stage.voucher, second, stage.other_voucher)]

    async def found(**properties: Any) -> set[str | None]:
        return set(await stage.values(token=PORTFOLIO, **properties))

    assert await found() == {"A", "B"}
    assert await found(VoucherIds=every) == {"A", "B", "C", "D"}
    assert await found(VoucherIds=every * 2) == {"A", "B", "C", "D"}
    assert await found(VoucherIds=every, EnterpriseIds=[str(stage.hotel.id)]) == {"A", "B", "C"}
    assert await found(VoucherIds=every, VoucherCodeIds=[str(first.id), str(other.id)]) == {"A", "D"}
    assert await found(VoucherCodeIds=[str(first.id), str(other.id)]) == {"A"}


@pytest.mark.parametrize("scope", ["unknown", "outside"])
@pytest.mark.parametrize(
    ("operation", "parameter"),
    [
        ("enterprises/getAll", "EnterpriseIds"),
        ("services/getAll", "EnterpriseIds"),
        ("services/getAll", "ServiceIds"),
        ("vouchers/getAll", "EnterpriseIds"),
        ("vouchers/getAll", "ServiceIds"),
        ("vouchers/getAll", "VoucherIds"),
        ("voucherCodes/getAll", "EnterpriseIds"),
        ("voucherCodes/getAll", "VoucherIds"),
        ("voucherCodes/getAll", "VoucherCodeIds"),
    ],
)
async def test_an_id_that_the_token_does_not_see_is_invalid(
    stage: Stage, operation: str, parameter: str, scope: str
) -> None:
    [code] = stage.world.add_codes(stage.other_voucher.id, ["D"])
    outside = {
        "EnterpriseIds": stage.other_hotel.id,
        "ServiceIds": stage.other_service.id,
        "VoucherIds": stage.other_voucher.id,
        "VoucherCodeIds": code.id,
    }
    properties: dict[str, Any] = dict(LIMIT)
    if operation == "vouchers/getAll":
        properties |= {"Extent": {"Vouchers": True}, "ServiceIds": [str(stage.service.id)]}
    if operation == "voucherCodes/getAll":
        properties |= {"VoucherIds": [str(stage.voucher.id)]}
    wrong: UUID = uuid4() if scope == "unknown" else outside[parameter]
    answer = await stage.call(operation, **(properties | {parameter: [str(wrong)]}))
    assert (answer.status_code, answer.json()["Message"]) == (400, f"Invalid {parameter}")
    assert stage.simulator.violations == []


async def test_one_service_that_carries_no_vouchers_spoils_the_call(stage: Stage) -> None:
    answer = await stage.call(
        "vouchers/getAll",
        Extent={"Vouchers": True},
        ServiceIds=[str(stage.service.id), str(stage.restaurant.id)],
        **LIMIT,
    )
    assert (answer.status_code, answer.json()["Message"]) == (400, "Invalid ServiceIds")
    assert stage.simulator.violations == []


async def test_codes_of_a_deleted_voucher_stay_readable(stage: Stage) -> None:
    stage.add("A")
    stage.world.deactivate_voucher(stage.voucher.id)
    assert await stage.values() == ["A"]


def test_a_service_that_carries_no_vouchers_gets_none(stage: Stage) -> None:
    with pytest.raises(ValueError, match="cannot carry vouchers"):
        stage.world.add_voucher(stage.restaurant.id, "Dinner")
    assert "Dinner" not in {voucher.name for voucher in stage.world.vouchers.values()}
