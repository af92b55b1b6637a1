"""The API's JSON as records: the vendor's own examples, and for every kind of record what cannot be stored."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from sync.mews import wire
from sync.mews.operations import ENTERPRISES, SERVICES, VOUCHER_ASSIGNMENTS, VOUCHER_CODES, VOUCHERS
from sync.mews.pages import Listing
from sync.mews.records import Enterprise, Service, Voucher, VoucherAssignment, VoucherCode

CODE_ID, OTHER_CODE_ID = "8c364829-c7ae-4972-b67f-93ea704d7228", "dc9d3488-7fc4-4fc9-a524-14e6504d8734"
VOUCHER_ID = "fe568bbd-1ecb-4bb2-bf77-96c3698de20d"
SERVICE_ID, ENTERPRISE_ID = "bd26d8db-86da-4f96-9efc-e5a4654a4a94", "3fa85f64-5717-4562-b3fc-2c963f66afa6"

# The response in the vendor's page on voucher codes, word for word.
VENDORS_EXAMPLE = b"""
{
  "VoucherCodes": [
    {
      "Id": "8c364829-c7ae-4972-b67f-93ea704d7228",
      "VoucherId": "fe568bbd-1ecb-4bb2-bf77-96c3698de20d",
      "Value": "0E5856B0A73E62B7E446",
      "ValidityStartUtc": null,
      "ValidityEndUtc": null,
      "CreatedUtc": "2023-10-30T13:37:16Z",
      "UpdatedUtc": "2023-10-30T13:37:16Z",
      "ActivityState": "Active"
    },
    {
      "Id": "dc9d3488-7fc4-4fc9-a524-14e6504d8734",
      "VoucherId": "fe568bbd-1ecb-4bb2-bf77-96c3698de20d",
      "Value": "021D047E42A5FD522CBA",
      "ValidityStartUtc": "2023-10-09T22:00:00Z",
      "ValidityEndUtc": "2023-10-09T22:00:00Z",
      "CreatedUtc": "2023-10-09T15:08:14Z",
      "UpdatedUtc": "2023-10-09T15:08:14Z",
      "ActivityState": "Active"
    }
  ]
}
"""

LISTINGS: dict[str, tuple[Listing[Any], dict[str, Any], str]] = {
    "Enterprises": (ENTERPRISES, {"Id": ENTERPRISE_ID, "Name": "Grand Hotel"}, "Name"),
    "Services": (SERVICES, {"Id": SERVICE_ID, "EnterpriseId": ENTERPRISE_ID, "Name": "Stay"}, "Name"),
    "Vouchers": (VOUCHERS, {"Id": VOUCHER_ID, "ServiceId": SERVICE_ID, "IsActive": True, "Name": "Summer"}, "Name"),
    "VoucherCodes": (VOUCHER_CODES, {"Id": CODE_ID, "VoucherId": VOUCHER_ID, "IsActive": True, "Value": "A"}, "Value"),
}
"""Of each listing with texts: the smallest record, and a text in it."""


def page(name: str, *records: object) -> bytes:
    return json.dumps({name: records}).encode()


def code(**changes: object) -> VoucherCode:
    """A voucher code that comes with these fields."""
    given = {"Id": CODE_ID, "VoucherId": VOUCHER_ID, "IsActive": True} | changes
    (record,) = VOUCHER_CODES.decode(page("VoucherCodes", given)).records
    return record


def test_the_vendors_example() -> None:
    result = VOUCHER_CODES.decode(VENDORS_EXAMPLE)
    first, evening = datetime(2023, 10, 30, 13, 37, 16, tzinfo=UTC), datetime(2023, 10, 9, 22, tzinfo=UTC)
    second = datetime(2023, 10, 9, 15, 8, 14, tzinfo=UTC)
    voucher_id = UUID(VOUCHER_ID)
    assert result.records == [
        VoucherCode(UUID(CODE_ID), voucher_id, "0E5856B0A73E62B7E446", None, None, first, first, True),
        VoucherCode(UUID(OTHER_CODE_ID), voucher_id, "021D047E42A5FD522CBA", evening, evening, second, second, True),
    ]
    assert result.rejected == []
    assert result.is_last(2)


@pytest.mark.parametrize("name", LISTINGS)
def test_a_record_needs_no_more_than_this(name: str) -> None:
    listing, smallest, _ = LISTINGS[name]
    result = listing.decode(page(name, smallest))
    assert len(result.records) == 1
    assert result.rejected == []


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "ok \udfff"], ids=ascii)
def test_a_text_that_postgres_cannot_store_is_refused_and_its_neighbours_go_on(name: str, text: str) -> None:
    listing, smallest, field = LISTINGS[name]
    result = listing.decode(page(name, smallest, smallest | {field: text}, smallest))
    assert len(result.records) == 2
    (rejected,) = result.rejected
    assert json.loads(rejected.raw)[field] == text
    assert rejected.raw.isascii()
    assert "\\u0000" in rejected.raw or "\\ud" in rejected.raw
    assert (rejected.kind, rejected.record_id) == (name, smallest["Id"])


@pytest.mark.parametrize("name", LISTINGS)
def test_unknown_fields_are_ignored_even_where_records_are_read_one_by_one(name: str) -> None:
    listing, smallest, _ = LISTINGS[name]
    surprising = smallest | {"Surprise": {"deep": [1, None, "x"]}, "id": 5, "Data": None}
    assert listing.decode(page(name, surprising)).records == listing.decode(page(name, smallest)).records
    assert listing.decode(page(name, surprising, 7)).records == listing.decode(page(name, smallest)).records


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("bad", [{"Id": None}, {"Id": "1"}, {"Id": 7}], ids=str)
def test_a_record_without_an_id_is_refused(name: str, bad: dict[str, Any]) -> None:
    listing, smallest, _ = LISTINGS[name]
    result = listing.decode(page(name, smallest | bad, smallest))
    assert (len(result.records), len(result.rejected)) == (1, 1)


@pytest.mark.parametrize(
    "instant",
    ["10000-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", 5, ""],
)
@pytest.mark.parametrize("field", ["ValidityStartUtc", "ValidityEndUtc", "CreatedUtc", "UpdatedUtc"])
def test_an_instant_outside_the_years_that_can_be_stored_is_refused(field: str, instant: object) -> None:
    good = {"Id": CODE_ID, "VoucherId": VOUCHER_ID, "IsActive": True}
    result = VOUCHER_CODES.decode(page("VoucherCodes", good, good | {field: instant}))
    assert [record.id for record in result.records] == [UUID(CODE_ID)]
    (rejected,) = result.rejected
    assert json.loads(rejected.raw)[field] == instant


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_first_and_the_last_instant_can_be_stored(instant: str) -> None:
    assert code(ValidityEndUtc=instant).validity_end_utc == datetime.fromisoformat(instant)


@pytest.mark.parametrize(
    ("instant", "in_utc"),
    [
        ("2026-03-01T01:30:00+02:00", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        ("2026-02-28T18:00:00-05:30", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        ("2026-02-28T23:30:00+00:00", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        ("2026-02-28T23:30:00.25Z", datetime(2026, 2, 28, 23, 30, 0, 250_000, tzinfo=UTC)),
        ("2026-02-28 23:30:00Z", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        ("2026-02-28T23:30Z", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        ("2026-02-28T23:30", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
        ("20260301T013000+0200", datetime(2026, 2, 28, 23, 30, tzinfo=UTC)),
    ],
)
def test_instants_become_utc(instant: str, in_utc: datetime) -> None:
    updated = code(UpdatedUtc=instant).updated_utc
    assert updated == in_utc
    assert updated is not None
    assert updated.tzinfo is UTC


@pytest.mark.parametrize(
    ("is_active", "activity_state", "expected"),
    [
        (True, None, True),
        (False, None, False),
        (True, "Deleted", True),
        (False, "Active", False),
        (False, "something new", False),
        (None, "Active", True),
        (None, "Deleted", False),
    ],
)
def test_is_active_is_preferred_and_the_deprecated_state_will_do(
    is_active: bool | None, activity_state: str | None, expected: bool
) -> None:
    assert wire.activity(is_active, activity_state) is expected


@pytest.mark.parametrize("activity_state", [None, "", "active", "something new"])
def test_without_either_nobody_guesses(activity_state: str | None) -> None:
    with pytest.raises(ValueError, match="neither IsActive nor"):
        wire.activity(None, activity_state)


def test_a_voucher_in_every_column() -> None:
    company, agency = UUID(int=1), UUID(int=2)
    given = {
        "Id": VOUCHER_ID,
        "ServiceId": SERVICE_ID,
        "EnterpriseId": ENTERPRISE_ID,
        "Name": "Corporate – Contoso",
        "Type": "PartnerCompany",
        "CompanyId": str(company),
        "TravelAgencyId": str(agency),
        "OccupiableIntervalStartUtc": "2026-01-01T00:00:00Z",
        "OccupiableIntervalEndUtc": "2026-02-01T00:00:00Z",
        "ExternalIdentifier": "X-7",
        "CreatedUtc": "2025-01-01T00:00:00Z",
        "UpdatedUtc": "2025-02-01T00:00:00Z",
        "ActivityState": "Deleted",
    }
    start, end, created, updated = (
        datetime(*day, tzinfo=UTC) for day in [(2026, 1, 1), (2026, 2, 1), (2025, 1, 1), (2025, 2, 1)]
    )
    assert VOUCHERS.decode(page("Vouchers", given)).records == [
        Voucher(
            UUID(VOUCHER_ID), UUID(SERVICE_ID), UUID(ENTERPRISE_ID), "Corporate – Contoso", "PartnerCompany",
            company, agency, start, end, "X-7", created, updated, is_active=False,
        )
    ]  # fmt: skip


def test_an_assignment() -> None:
    given = {"Id": CODE_ID, "VoucherId": VOUCHER_ID, "RateId": SERVICE_ID}
    result = VOUCHER_ASSIGNMENTS.decode(page("VoucherAssignments", given, {"VoucherId": VOUCHER_ID}))
    assert result.records == [VoucherAssignment(UUID(VOUCHER_ID), UUID(SERVICE_ID))]
    assert len(result.rejected) == 1


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"Name": "Own", "Names": {"en-US": "Translated"}}, "Own"),
        ({"Name": None, "Names": {"cs-CZ": "Pokoje", "en-US": "Rooms"}}, "Rooms"),
        ({"Names": {}}, None),
        ({"Names": None}, None),
    ],
)
def test_a_services_name(given: dict[str, Any], name: str | None) -> None:
    service = {"Id": SERVICE_ID, "EnterpriseId": ENTERPRISE_ID, "IsActive": False} | given
    (record,) = SERVICES.decode(page("Services", service)).records
    assert record == Service(UUID(SERVICE_ID), UUID(ENTERPRISE_ID), name, None, is_active=False)


def test_an_enterprise_may_have_no_time_zone() -> None:
    (record,) = ENTERPRISES.decode(page("Enterprises", {"Id": ENTERPRISE_ID, "Name": "Grand Hotel"})).records
    assert record == Enterprise(UUID(ENTERPRISE_ID), "Grand Hotel", None)


def test_a_reason_never_shows_the_value() -> None:
    secret = "SUMM26-7KQ2M9XA"
    codes = [
        {"Id": CODE_ID, "VoucherId": VOUCHER_ID, "Value": f"{secret}\x00", "IsActive": True},
        {"Id": CODE_ID, "VoucherId": VOUCHER_ID, "Value": f"{secret}\ud800", "IsActive": True},
        {"Id": CODE_ID, "VoucherId": VOUCHER_ID, "Value": secret * 99, "IsActive": True},
        {"Id": CODE_ID, "VoucherId": VOUCHER_ID, "Value": [secret], "IsActive": True},
        {"Id": CODE_ID, "VoucherId": VOUCHER_ID, "Value": secret},
        {"Id": CODE_ID, "VoucherId": secret, "Value": secret, "IsActive": True},
        {"Id": CODE_ID, "VoucherId": VOUCHER_ID, "Value": secret, "IsActive": secret},
    ]
    result = VOUCHER_CODES.decode(page("VoucherCodes", *codes))
    assert len(result.rejected) == len(codes)
    assert not [rejected.reason for rejected in result.rejected if secret in rejected.reason]


@pytest.mark.parametrize(
    ("instant", "written"),
    [
        (datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00Z"),
        (datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC), "2026-01-31T23:59:59Z"),
        (datetime(2026, 1, 31, 1, 30, tzinfo=timezone(timedelta(hours=2))), "2026-01-30T23:30:00Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00Z"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), "9999-12-31T23:59:59Z"),
    ],
)
def test_an_instant_as_the_api_reads_it(instant: datetime, written: str) -> None:
    assert wire.utc(instant) == written
