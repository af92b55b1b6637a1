"""A page of codes that is read column by column is what it would be read code by code, good or bad."""

import json
from datetime import UTC
from typing import Any

import msgspec
import pytest

from sync.mews import wire
from sync.mews.operations import VOUCHER_CODES
from sync.mews.pages import UNREADABLE, Listing, Page
from sync.mews.records import VoucherCode, VoucherCodes
from tests.fuzz.garbage import Garbage

BY_CODE: Listing[VoucherCode] = Listing("VoucherCodes", wire.VoucherCodeWire, required=True)
GOOD = {
    "Id": "8c364829-c7ae-4972-b67f-93ea704d7228",
    "VoucherId": "fe568bbd-1ecb-4bb2-bf77-96c3698de20d",
    "Value": "A",
    "UpdatedUtc": "2026-06-01T12:00:00Z",
    "IsActive": True,
}
OTHER_WAYS: dict[str, dict[str, Any]] = {
    "an id without hyphens": {"Id": GOOD["Id"].replace("-", "")},  # type: ignore[attr-defined]  # a text
    "an instant without a zone": {"UpdatedUtc": "2026-06-01T12:00:00"},
    "an instant elsewhere": {"UpdatedUtc": "2026-06-01T12:00:00+02:00"},
}
SPOILED: dict[str, dict[str, Any]] = {
    "NUL": {"Value": "A\x00"},
    "a lone surrogate": {"Value": "\ud800"},
    "too long": {"Value": "x" * 501},
    "neither active nor deleted": {"IsActive": None},
    "an unknown state": {"IsActive": None, "ActivityState": "Asleep"},
    "no id": {"Id": None},
    "spaces in an id": {"Id": GOOD["Id"].replace("8", " ")},  # type: ignore[attr-defined]  # a text
    "beyond the years": {"UpdatedUtc": "9999-12-31T23:59:59-14:00"},
}


def read(listing: Listing[VoucherCode], body: bytes) -> Page[VoucherCode] | type[BaseException]:
    try:
        page = listing.decode(body)
    except UNREADABLE as error:
        return type(error)
    return Page(list(page.records), page.rejected, page.cursor)


def page_of(*codes: dict[str, Any]) -> bytes:
    return json.dumps({"VoucherCodes": codes, "Cursor": None}).encode()


def test_whatever_the_api_answers_is_read_the_same() -> None:
    for seed in range(1, 1001):
        body, _ = Garbage(seed).body()
        assert read(VOUCHER_CODES, body) == read(BY_CODE, body), seed


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED)
def test_a_spoiled_code_costs_no_other(change: dict[str, Any]) -> None:
    body = page_of(GOOD, GOOD | change, GOOD)
    page = VOUCHER_CODES.decode(body)
    assert (len(page.records), len(page.rejected)) == (2, 1)
    assert read(VOUCHER_CODES, body) == read(BY_CODE, body)


@pytest.mark.parametrize("change", OTHER_WAYS.values(), ids=OTHER_WAYS)
def test_what_columns_do_not_take_is_read_code_by_code(change: dict[str, Any]) -> None:
    page = VOUCHER_CODES.decode(page_of(GOOD, GOOD | change))
    assert not isinstance(page.records, VoucherCodes)
    assert [code.updated_utc and code.updated_utc.tzinfo for code in page.records] == [UTC, UTC]
    assert page.rejected == []


def test_codes_are_made_of_columns_when_asked_for() -> None:
    page = VOUCHER_CODES.decode(page_of(GOOD, GOOD | {"Value": None, "IsActive": None, "ActivityState": "Deleted"}))
    assert isinstance(page.records, VoucherCodes)
    first, second = page.records
    assert page.records == [first, second] == [page.records[0], page.records[1]]
    assert list(page.records[1:]) == [second]
    assert page.records != [second, first]
    assert (first.value, first.is_active, second.value, second.is_active) == ("A", True, None, False)


def test_a_list_of_something_else_is_none_of_codes() -> None:
    with pytest.raises(UNREADABLE):
        wire.voucher_codes(msgspec.Raw(b'{"Id": 1}'))
