"""Which requests the API takes, and how it refuses the others."""

import re
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from sync.demo.simulator import Operation
from tests.simulator.helpers import PLAIN, START, Stage

ID = str(uuid4())
LIMIT: dict[str, Any] = {"Limitation": {"Count": 10}}
INTERVAL = {"StartUtc": "2026-01-01T00:00:00Z", "EndUtc": "2026-02-01T00:00:00Z"}

WRONG_BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("enterprises/getAll", {"ClientToken": ...}, "ClientToken"),
    ("enterprises/getAll", {"ClientToken": ""}, "ClientToken"),
    ("enterprises/getAll", {"AccessToken": ...}, "AccessToken"),
    ("enterprises/getAll", {"AccessToken": ""}, "AccessToken"),
    ("enterprises/getAll", {"AccessToken": 7}, "AccessToken"),
    ("enterprises/getAll", {"Client": ...}, "Client"),
    ("enterprises/getAll", {"Client": ""}, "Client"),
    ("enterprises/getAll", {"LanguageCode": "en-US"}, "CultureCode"),
    ("enterprises/getAll", {"CultureCode": "en-US"}, "CultureCode"),
    ("enterprises/getAll", {"Limitation": ...}, "Limitation"),
    ("enterprises/getAll", {"Limitation": None}, "Limitation"),
    ("enterprises/getAll", {"Limitation": {}}, "Count"),
    ("enterprises/getAll", {"Limitation": {"Count": 0}}, "Count"),
    ("enterprises/getAll", {"Limitation": {"Count": 1001}}, "Count"),
    ("enterprises/getAll", {"Limitation": {"Count": "10"}}, "Count"),
    ("enterprises/getAll", {"Limitation": {"Count": 10, "Cursor": "first"}}, "Cursor"),
    ("enterprises/getAll", {"Limitation": {"Count": 10, "Offset": 0}}, "Offset"),
    ("enterprises/getAll", {"Colour": "red"}, "Colour"),
    ("enterprises/getAll", {"EnterpriseIds": []}, "EnterpriseIds"),
    ("enterprises/getAll", {"EnterpriseIds": [ID] * 1001}, "EnterpriseIds"),
    ("enterprises/getAll", {"ServiceIds": [ID]}, "ServiceIds"),
    ("services/getAll", {"ServiceIds": []}, "ServiceIds"),
    ("services/getAll", {"ServiceIds": ["one"]}, "ServiceIds"),
    ("services/getAll", {"ServiceType": "Orderable"}, "ServiceType"),
    ("vouchers/getAll", {"ServiceIds": [ID]}, "Extent"),
    ("vouchers/getAll", {"Extent": {"Vouchers": True}}, "ServiceIds"),
    ("vouchers/getAll", {"Extent": {"Everything": True}, "ServiceIds": [ID]}, "Everything"),
    ("vouchers/getAll", {"Extent": {"Vouchers": 1}, "ServiceIds": [ID]}, "Vouchers"),
    ("vouchers/getAll", {"Extent": {}, "ServiceIds": [ID] * 1001}, "ServiceIds"),
    ("vouchers/getAll", {"Extent": {}, "ServiceIds": [ID], "ActivityStates": ["Asleep"]}, "ActivityStates"),
    ("voucherCodes/getAll", {}, "VoucherIds"),
    ("voucherCodes/getAll", {"VoucherIds": []}, "VoucherIds"),
    ("voucherCodes/getAll", {"VoucherIds": [ID] * 1001}, "VoucherIds"),
    ("voucherCodes/getAll", {"VoucherIds": [ID], "VoucherCodeIds": []}, "VoucherCodeIds"),
    ("voucherCodes/getAll", {"VoucherIds": [ID], "EnterpriseId": ID}, "EnterpriseId"),
    ("voucherCodes/getAll", {"VoucherIds": [ID], "UpdatedUtc": {"StartUtc": INTERVAL["StartUtc"]}}, "EndUtc"),
    ("voucherCodes/getAll", {"VoucherIds": [ID], "UpdatedUtc": INTERVAL | {"Zone": "UTC"}}, "Zone"),
    ("voucherCodes/getAll", {"VoucherIds": [ID], "UpdatedUtc": INTERVAL | {"EndUtc": "tomorrow"}}, "EndUtc"),
    ("voucherCodes/getAll", {"VoucherIds": [ID], "UpdatedUtc": INTERVAL | {"EndUtc": "2026-02-01T00:00:00"}}, "EndUtc"),
    (
        "voucherCodes/getAll",
        {"VoucherIds": [ID], "UpdatedUtc": INTERVAL | {"EndUtc": "2026-02-01T00:00:00+02:00"}},
        "UTC",
    ),
    (
        "voucherCodes/getAll",
        {"VoucherIds": [ID], "UpdatedUtc": INTERVAL | {"EndUtc": "2025-12-31T23:59:59Z"}},
        "before",
    ),
    ("voucherCodes/add", {}, "VoucherCodeParameters"),
    ("voucherCodes/add", {"VoucherCodeParameters": []}, "VoucherCodeParameters"),
    ("voucherCodes/add", {"VoucherCodeParameters": [{"VoucherId": ID, "Value": "A"}] * 1001}, "VoucherCodeParameters"),
    ("voucherCodes/add", {"VoucherCodeParameters": [{"VoucherId": ID}]}, "Value"),
    ("voucherCodes/add", {"VoucherCodeParameters": [{"VoucherId": ID, "Value": None}]}, "Value"),
    ("voucherCodes/add", {"VoucherCodeParameters": [{"VoucherId": ID, "Value": ""}]}, "Value"),
    ("voucherCodes/add", {"VoucherCodeParameters": [{"VoucherId": ID, "Value": "x" * 129}]}, "Value"),
    ("voucherCodes/add", {"VoucherCodeParameters": [{"VoucherId": ID, "Value": "A", "IsActive": True}]}, "IsActive"),
    (
        "voucherCodes/add",
        {
            "VoucherCodeParameters": [
                {
                    "VoucherId": ID,
                    "Value": "A",
                    "ValidityStartUtc": "2026-01-02T00:00:00Z",
                    "ValidityEndUtc": "2026-01-01T00:00:00Z",
                }
            ]
        },
        "validity",
    ),
    (
        "voucherCodes/add",
        {"VoucherCodeParameters": [{"VoucherId": ID, "Value": "A"}], "Limitation": {"Count": 1}},
        "Limitation",
    ),
    ("voucherCodes/delete", {}, "VoucherCodeIds"),
    ("voucherCodes/delete", {"VoucherCodeIds": []}, "VoucherCodeIds"),
    ("voucherCodes/delete", {"VoucherCodeIds": [ID] * 1001}, "VoucherCodeIds"),
    ("voucherCodes/delete", {"VoucherCodeIds": [ID], "EnterpriseId": "B"}, "EnterpriseId"),
]


@pytest.mark.parametrize(("operation", "properties", "refused_one"), WRONG_BODIES)
async def test_a_body_that_breaks_the_schema_is_refused_and_noted(
    stage: Stage, operation: str, properties: dict[str, Any], refused_one: str
) -> None:
    takes_limitation = operation.endswith("getAll")
    answer = await stage.call(operation, **((LIMIT if takes_limitation else {}) | properties))
    assert answer.status_code == 400
    assert refused_one in answer.json()["Details"]
    assert len(stage.simulator.violations) == 1
    assert refused_one in stage.simulator.violations[0]
    assert not re.search(r"the-\w+-token|xxx", stage.simulator.violations[0] + answer.text)


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b'{"Client": "\xff"}', "application/json"),
        (b"[]", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"{}", "text/plain"),
    ],
    ids=["nothing", "half", "not UTF-8", "no object", "too deep", "wrong type"],
)
async def test_what_is_no_json_object_is_refused(stage: Stage, content: bytes, content_type: str) -> None:
    url = f"{stage.address}/api/connector/v1/enterprises/getAll"
    answer = await stage.http.post(url, content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 400
    assert len(stage.simulator.violations) == 1


@pytest.mark.parametrize(
    "properties",
    [
        {"LanguageCode": "en-US", "CultureCode": "en-US"},
        {"EnterpriseIds": None, "UpdatedUtc": None},
        {"Limitation": {"Count": 1000, "Cursor": None}},
        {"Limitation": {"Count": 1}},
        {"UpdatedUtc": INTERVAL},
    ],
)
async def test_what_the_schema_allows_is_taken(stage: Stage, properties: dict[str, Any]) -> None:
    answer = await stage.call("enterprises/getAll", **(LIMIT | properties))
    assert answer.status_code == 200, answer.text
    assert stage.simulator.violations == []


async def test_a_value_of_128_characters_is_taken(stage: Stage) -> None:
    assert (await stage.write("é" * 128)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/connector/v1/enterprises/getAll/", 404),
        ("POST", "/api/connector/v1/Enterprises/getAll", 404),
        ("POST", "/api/connector/v1/enterprises/getall", 404),
        ("POST", "/api/connector/v1/voucherCodes%2FgetAll", 404),
        ("POST", "/api/connector/v1/voucherCodes/update", 404),
        ("POST", "/", 404),
        ("GET", "/api/connector/v1/enterprises/getAll", 405),
    ],
)
async def test_a_wrong_address_is_not_found_and_noted(stage: Stage, method: str, path: str, status: int) -> None:
    answer = await stage.http.request(method, stage.address + path)
    assert answer.status_code == status
    assert answer.json()["RequestId"] == answer.headers["Request-Id"]
    assert len(stage.simulator.violations) == 1


async def test_every_answer_carries_a_request_id_and_the_servers_time(stage: Stage) -> None:
    stage.time.advance(90.9)
    answers = [await stage.call("enterprises/getAll", **LIMIT), await stage.call("enterprises/getAll")]
    assert len({UUID(answer.headers["Request-Id"]) for answer in answers}) == 2
    for answer in answers:
        assert (parsedate_to_datetime(answer.headers["Date"]) - START).total_seconds() == 90
    assert answers[1].json() == {
        "Message": "Invalid request",
        "RequestId": answers[1].headers["Request-Id"],
        "Details": "Object missing required field `Limitation`",
    }
    assert [record.request_id for record in stage.simulator.requests] == [a.headers["Request-Id"] for a in answers]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [({"ClientToken": "stranger"}, "Invalid ClientToken"), ({"AccessToken": "stranger"}, "Invalid AccessToken")],
)
async def test_an_unknown_token_is_unauthorized(stage: Stage, tokens: dict[str, Any], message: str) -> None:
    answer = await stage.call("enterprises/getAll", **(LIMIT | tokens))
    assert (answer.status_code, answer.json()["Message"]) == (401, message)
    assert stage.simulator.violations == []


async def test_a_revoked_token_is_unauthorized(stage: Stage) -> None:
    stage.world.revoke(PLAIN)
    assert (await stage.call("enterprises/getAll", **LIMIT)).status_code == 401


async def test_a_token_may_lack_the_permission_for_an_operation(stage: Stage) -> None:
    stage.world.permit(PLAIN, {Operation.GET_ENTERPRISES})
    assert (await stage.call("enterprises/getAll", **LIMIT)).status_code == 200
    assert (await stage.write("A")).status_code == 401
    assert stage.world.codes.truth == {}


async def test_a_body_above_the_limit_is_too_large(stage: Stage) -> None:
    stage.simulator.behaviour.max_body_bytes = 500
    assert (await stage.write("A")).status_code == 200
    assert (await stage.write(*(f"B{number}" for number in range(10)))).status_code == 413
    assert len(stage.world.codes.truth) == 1


async def test_records_hold_what_was_asked_and_no_token(stage: Stage) -> None:
    [code] = stage.add("A")
    await stage.read(count=7)
    [record] = stage.simulator.requests
    assert (record.operation, record.token, record.status) == (Operation.GET_CODES, "plain", 200)
    assert (record.items, record.cursor_in, record.cursor_out) == (1, None, code.id)
    assert (record.arrived_s, record.fault) == (stage.time.elapsed_s, None)
    assert record.body == {
        "Client": "tests 1.0",
        "VoucherIds": [str(stage.voucher.id)],
        "Limitation": {"Count": 7},
    }
