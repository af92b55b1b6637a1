"""The API's pages become records; what cannot be stored is kept, and never spoils its neighbours."""

import json
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from sync.mews.operations import ENTERPRISES, SERVICES, VOUCHER_CODES, VOUCHERS
from sync.mews.pages import UNREADABLE

ID = "8c364829-c7ae-4972-b67f-93ea704d7228"
VOUCHER_ID = "fe568bbd-1ecb-4bb2-bf77-96c3698de20d"


def code(**changes: Any) -> dict[str, Any]:
    return {
        "Id": ID,
        "VoucherId": VOUCHER_ID,
        "Value": "0E5856B0A73E62B7E446",
        "ValidityStartUtc": None,
        "ValidityEndUtc": "2023-11-09T22:00:00Z",
        "CreatedUtc": "2023-10-30T13:37:16Z",
        "UpdatedUtc": "2023-10-30T13:37:16Z",
        "IsActive": True,
    } | changes


def body(*codes: Any, cursor: str | None = ID) -> bytes:
    return json.dumps({"VoucherCodes": codes, "Cursor": cursor}).encode()


def test_a_code_in_every_column() -> None:
    (record,) = VOUCHER_CODES.decode(body(code())).records
    created = datetime(2023, 10, 30, 13, 37, 16, tzinfo=UTC)
    end = datetime(2023, 11, 9, 22, tzinfo=UTC)
    assert record == (UUID(ID), UUID(VOUCHER_ID), "0E5856B0A73E62B7E446", None, end, created, created, True)


@pytest.mark.parametrize(
    ("given", "is_active"),
    [
        ({"IsActive": False, "ActivityState": "Active"}, False),
        ({"IsActive": None, "ActivityState": "Deleted"}, False),
        ({"IsActive": None, "ActivityState": "Active"}, True),
    ],
)
def test_activity_in_both_its_forms_with_the_newer_one_preferred(given: dict[str, Any], is_active: bool) -> None:
    (record,) = VOUCHER_CODES.decode(body(code(**given))).records
    assert record.is_active is is_active


def test_nulls_and_unknown_fields_are_no_trouble() -> None:
    nulls = dict.fromkeys(["Value", "ValidityStartUtc", "ValidityEndUtc", "CreatedUtc", "UpdatedUtc"])
    (record,) = VOUCHER_CODES.decode(body(code(**nulls, Surprise={"a": [1]}))).records
    assert record[2:7] == (None,) * 5


def test_an_instant_without_a_zone_is_in_utc() -> None:
    (record,) = VOUCHER_CODES.decode(body(code(UpdatedUtc="2023-10-30T13:37:16"))).records
    assert record.updated_utc == datetime(2023, 10, 30, 13, 37, 16, tzinfo=UTC)


@pytest.mark.parametrize("fraction", ["1234567", "9999999", "123456789"])
def test_an_instant_is_the_same_whatever_stands_beside_it_on_its_page(fraction: str) -> None:
    one = code(UpdatedUtc=f"2023-10-30T13:37:16.{fraction}Z")
    (alone,) = VOUCHER_CODES.decode(body(one)).records
    (beside,) = VOUCHER_CODES.decode(body(one, code(Id="no uuid"))).records
    assert beside.updated_utc == alone.updated_utc


UNSTORABLE: list[Any] = [
    code(Value="a\x00b"),
    code(Value="\ud800"),
    code(Value=7),
    code(UpdatedUtc="10000-01-01T00:00:00Z"),
    code(UpdatedUtc="0001-01-01T00:00:00+05:00"),
    code(UpdatedUtc="yesterday"),
    code(Id="no uuid"),
    code(VoucherId=None),
    code(IsActive=None),
    code(IsActive="yes"),
    None,
    "text",
    [],
    {},
]


@pytest.mark.parametrize("unstorable", UNSTORABLE, ids=[str(number) for number in range(len(UNSTORABLE))])
def test_a_record_that_cannot_be_stored_is_kept_raw_and_its_neighbours_go_on(unstorable: Any) -> None:
    good = code(Id=VOUCHER_ID)
    page = VOUCHER_CODES.decode(body(good, unstorable, good))

    assert [record.id for record in page.records] == [UUID(VOUCHER_ID)] * 2
    (rejected,) = page.rejected
    assert json.loads(rejected.raw) == unstorable
    assert rejected.kind == "VoucherCodes"
    assert rejected.reason
    assert page.cursor == UUID(ID)


def test_a_rejected_record_counts_for_the_size_of_its_page() -> None:
    page = VOUCHER_CODES.decode(body(code(), code(Id=5)))
    assert not page.is_last(2)
    assert page.is_last(3)


def test_a_page_without_a_cursor_is_the_last() -> None:
    assert VOUCHER_CODES.decode(body(code(), code(), cursor=None)).is_last(2)


@pytest.mark.parametrize(
    "unreadable",
    [
        b"",
        b"<html></html>",
        b"[]",
        b"{}",
        b'{"VoucherCodes": null}',
        b'{"VoucherCodes": {}}',
        b'{"VoucherCodes": [',
        b"\xff",
        b'{"VoucherCodes": [], "Cursor": "abc"}',
        b'{"VoucherCodes": [], "Cursor": 5}',
        b"[" * 200000,
    ],
    ids=lambda text: text[:40].decode(errors="replace"),
)
def test_a_body_that_is_no_page_is_never_taken_for_an_empty_one(unreadable: bytes) -> None:
    with pytest.raises(UNREADABLE):
        VOUCHER_CODES.decode(unreadable)


def test_a_list_that_was_optional_may_be_missing() -> None:
    assert VOUCHERS.decode(b'{"Vouchers": null, "Cursor": null}').records == []


def test_a_service_is_named_in_english_where_it_can_be() -> None:
    services = [
        {"Id": ID, "EnterpriseId": ID, "IsActive": True, "Names": {"de-DE": "Zimmer", "en-US": "Rooms"}},
        {
            "Id": ID,
            "EnterpriseId": ID,
            "IsActive": True,
            "Names": {"de-DE": "Zimmer"},
            "Data": {"Discriminator": "Bookable"},
        },
    ]
    page = SERVICES.decode(json.dumps({"Services": services}).encode())
    assert [(one.name, one.type) for one in page.records] == [("Rooms", None), ("Zimmer", "Bookable")]


def test_an_enterprise_keeps_its_time_zone() -> None:
    enterprise = {"Id": ID, "Name": "Grand Hotel", "TimeZoneIdentifier": "Europe/Prague"}
    (record,) = ENTERPRISES.decode(json.dumps({"Enterprises": [enterprise]}).encode()).records
    assert (record.name, record.time_zone) == ("Grand Hotel", "Europe/Prague")


def test_what_is_nested_too_deeply_spoils_its_own_record_at_most() -> None:
    deep = "[" * 5000 + "]" * 5000
    unknown, spoiled = code(), code(Id="22222222-2222-2222-2222-222222222222", Value="@deep@")
    unknown["Unknown"] = "@deep@"
    page = VOUCHER_CODES.decode(body(unknown, spoiled).replace(b'"@deep@"', deep.encode()))
    assert [str(one.id) for one in page.records] == [ID]
    assert [one.record_id for one in page.rejected] == ["22222222-2222-2222-2222-222222222222"]


def test_a_text_without_an_end_below_what_is_nested_too_deeply_keeps_the_loop_no_longer_than_any_answer() -> None:
    answer = b'{"VoucherCodes": ' + b"[" * 5000 + b'"' + b'\\"' * 20_000
    began_s = time.process_time()
    with pytest.raises(UNREADABLE):
        VOUCHER_CODES.decode(answer)
    assert time.process_time() - began_s < 2  # milliseconds, where each quote in it costs the same
