"""A record that cannot be stored is kept as it came, once, and stops neither its page nor the pull."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from sync.demo.simulator import Code, Operation, RawBody, Voucher
from tests.support.flows import footprint, later, mirrored, numbered, on_pages, page_of, watermarks
from tests.support.mirror import Mirror

UNREADABLE = {
    "a number for a text": {"Value": 17},
    "a list for a text": {"Value": ["A"]},
    "a text for a boolean": {"IsActive": "yes"},
    "NUL in a text": {"Value": "A\x00B"},
    "half a character": {"Value": "A\ud800B"},
    "a year past 9999": {"ValidityEndUtc": "10000-01-01T00:00:00Z"},
    "a year past 9999 in UTC": {"ValidityEndUtc": "9999-12-31T23:59:59-01:00"},
    "a word for an instant": {"UpdatedUtc": "yesterday"},
    "no id": {"Id": ...},
    "an id that is none": {"Id": "17"},
    "no voucher": {"VoucherId": ...},
    "neither IsActive nor ActivityState": {"IsActive": ..., "ActivityState": ...},
}


def broken(code: Code, changes: dict[str, Any]) -> str:
    """A code's JSON with other properties, or without some."""
    shown = json.loads(page_of([code]))["VoucherCodes"][0]
    return json.dumps({name: value for name, value in (shown | changes).items() if value is not ...})


def spare(mirror: Mirror, voucher: Voucher, value: str) -> Code:
    """A code that the API does not have."""
    return Code(id=mirror.world.new_id(), voucher_id=voucher.id, value=value, updated_utc=mirror.world.now())


async def a_page_with(mirror: Mirror, *records: str) -> list[Code]:
    """A pull whose page holds three good codes and these records; the good ones."""
    (voucher,) = mirror.world.vouchers.values()
    good = mirror.add_codes(voucher, numbered(3, "GOOD"))
    mirror.simulator.faults.script(Operation.GET_CODES, RawBody(page_of(good, *records)))
    return good


async def kept(mirror: Mirror) -> list[str]:
    return [row["raw"] for row in await mirror.rows("SELECT raw FROM sync.rejected_records ORDER BY first_seen_at")]


@pytest.mark.parametrize("changes", UNREADABLE.values(), ids=UNREADABLE.keys())
async def test_an_unreadable_record_is_kept_raw_and_its_page_goes_on(mirror: Mirror, changes: dict[str, Any]) -> None:
    voucher = mirror.add_voucher()
    record = broken(spare(mirror, voucher, "SPARE"), changes)
    await mirror.discover()
    good = await a_page_with(mirror, record)
    report = await mirror.pull()
    assert (report.errors, report.rejected, report.written) == ([], 1, 3)
    assert await mirrored(mirror) == {code.id for code in good}
    assert [json.loads(raw) for raw in await kept(mirror)] == [json.loads(record)]
    (row,) = await mirror.rows("SELECT connection, kind, record_id, reason FROM sync.rejected_records")
    assert (row["connection"], row["kind"]) == ("default", "VoucherCodes")
    assert row["record_id"] == json.loads(record).get("Id")
    assert "SPARE" not in row["reason"]


@pytest.mark.long
async def test_the_watermark_passes_an_unreadable_record(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    before = (await watermarks(mirror))[voucher.id]
    mirror.simulator.faults.script(
        Operation.GET_CODES, RawBody(page_of([], broken(spare(mirror, voucher, "A"), {"Value": 1})))
    )
    report = await later(mirror)
    assert (report.rejected, report.written) == (1, 0)
    assert (await watermarks(mirror))[voucher.id] > before


@pytest.mark.long
async def test_the_same_unreadable_record_is_counted_once_and_then_writes_nothing(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    record = broken(spare(mirror, voucher, "A"), {"Value": 1})
    body = RawBody(page_of([], record, record))
    await mirror.once()
    mirror.simulator.faults.script(Operation.GET_CODES, body, times=3)
    assert (await later(mirror)).rejected == 1
    before = await footprint(mirror)
    for _ in range(2):
        assert (await later(mirror)).rejected == 0
    assert len(await kept(mirror)) == 1
    assert await footprint(mirror) == before


@pytest.mark.long
async def test_a_full_page_of_unreadable_records_is_not_the_last(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    codes = mirror.add_codes(voucher, numbered(1200))
    await mirror.discover()
    newest = on_pages(codes)[:1000]
    records, cursor = [broken(code, {"Value": 1}) for code in newest], newest[-1].id
    mirror.simulator.faults.script(Operation.GET_CODES, RawBody(page_of([], *records, cursor=cursor)))
    report = await mirror.pull()
    assert (report.rejected, report.written) == (1000, 200)
    assert mirror.requests()[1].cursor_in == cursor


async def test_unknown_properties_are_ignored(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    code = spare(mirror, voucher, "A")
    await mirror.discover()
    good = await a_page_with(mirror, broken(code, {"Colour": {"Of": ["money", 17, None]}}))
    assert (await mirror.pull()).rejected == 0
    assert await mirrored(mirror) == {code.id, *(one.id for one in good)}


@pytest.mark.long
async def test_a_code_that_becomes_unreadable_keeps_its_last_readable_state(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    (code,) = mirror.add_codes(voucher, ["A"])
    await mirror.once()
    mirror.simulator.faults.script(Operation.GET_CODES, RawBody(page_of([], broken(code, {"Value": "\x00"}))))
    assert (await later(mirror)).rejected == 1
    (row,) = await mirror.rows("SELECT id, value FROM mews.voucher_codes")
    assert tuple(row.values()) == (code.id, "A")


@pytest.mark.parametrize("activity", ["both", "IsActive", "ActivityState"])
async def test_whether_a_code_is_active_is_read_from_whatever_says_so(mirror: Mirror, activity: Any) -> None:
    mirror.simulator.behaviour.activity = activity
    voucher = mirror.add_voucher()
    deleted, *_ = mirror.add_codes(voucher, numbered(4))
    mirror.world.delete_code(deleted.id)
    await mirror.once()
    await later(mirror)
    assert (await mirror.compare()).is_equal
    assert len(await mirror.rows("SELECT FROM mews.voucher_codes WHERE NOT is_active")) == 1


@pytest.mark.parametrize("value", [b'"OT\xffER"', b"1" * 5000], ids=["no UTF-8", "a huge number"])
async def test_a_record_that_the_json_parser_refuses_does_not_spoil_its_page(mirror: Mirror, value: bytes) -> None:
    good = mirror.add_codes(mirror.add_voucher(), ["GOOD", "OTHER"])
    await mirror.discover()
    mirror.simulator.faults.script(Operation.GET_CODES, *[RawBody(page_of(good).replace(b'"OTHER"', value))] * 6)
    report = await mirror.pull()
    assert (report.errors, report.rejected) == ([], 1)


@pytest.mark.long
async def test_more_unreadable_assignments_than_a_statement_has_parameters_for_stop_nothing(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    code, *_ = mirror.add_codes(voucher, ["A"])
    unreadable = [{"VoucherId": str(voucher.id), "RateId": number} for number in range(10_000)]
    shown = [{"Id": str(voucher.id), "ServiceId": str(voucher.service_id), "IsActive": True}]
    body = json.dumps({"Vouchers": shown, "VoucherAssignments": unreadable, "Cursor": None})

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        if operation is Operation.GET_VOUCHERS:
            raise web.HTTPOk(text=body, content_type="application/json")

    mirror.simulator.on_request = on_request
    assert (await mirror.discover()).rejected == 10_000
    assert (await mirror.discover()).rejected == 0
    assert (await mirror.pull()).errors == []
    assert await mirrored(mirror) == {code.id}


@pytest.mark.long
async def test_what_a_discovery_lists_no_more_or_can_read_again_is_kept_no_longer(mirror: Mirror) -> None:
    voucher, other = mirror.add_voucher("Summer"), mirror.add_voucher("Winter")
    await mirror.discover()
    unreadable = {
        one.id: {"Id": str(one.id), "ServiceId": str(one.service_id), "IsActive": True, "Name": 7}
        for one in (voucher, other)
    }
    assignment = {"VoucherId": str(voucher.id), "RateId": 7}
    for vouchers, assignments, left in (
        ([*unreadable.values()], [assignment], 3),
        ([unreadable[other.id]], [assignment], 2),
        ([unreadable[other.id]], [], 1),
    ):
        body = json.dumps({"Vouchers": vouchers, "VoucherAssignments": assignments, "Cursor": None}).encode()
        mirror.simulator.faults.script(Operation.GET_VOUCHERS, RawBody(body), RawBody(body))
        await mirror.discover()
        mirror.simulator.faults.stop()
        assert len(await kept(mirror)) == left
    await mirror.discover()
    assert await kept(mirror) == []
