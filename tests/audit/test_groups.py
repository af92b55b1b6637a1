"""An audit costs pages, not vouchers, and a voucher that cannot be listed does not cost the others."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any

import pytest
from aiohttp import web

from sync.audit.compare import Difference
from sync.audit.report import AuditReport
from sync.audit.run import audit
from sync.demo.simulator import Code, Operation, RequestRecord, Voucher
from tests.support.flows import LOOK, REPAIR, at_page, fail_where, ids, later, numbered, on_pages
from tests.support.mirror import Mirror


async def filled(mirror: Mirror, vouchers: int, codes: int) -> list[tuple[Voucher, list[Code]]]:
    """Mirrored vouchers with so many codes each."""
    made = []
    for number in range(vouchers):
        voucher = mirror.add_voucher(f"Voucher {number}")
        made.append((voucher, mirror.add_codes(voucher, numbered(codes, f"OF-{number}"))))
    await later(mirror)
    return made


class Validity(StrEnum):
    """When a code may be used."""

    USABLE = "usable"
    OVER = "over"
    TO_COME = "to come"


def make_valid(mirror: Mirror, code: Code, validity: Validity) -> None:
    """The hotel changes when a code may be used."""
    week = timedelta(days=7)
    if validity is Validity.OVER:
        mirror.world.edit_code(code.id, validity_end_utc=mirror.clock() - week)
    elif validity is Validity.TO_COME:
        mirror.world.edit_code(code.id, validity_start_utc=mirror.clock() + week)


def leave_out_of_a_listing(mirror: Mirror, codes: Sequence[Code], pages: int) -> None:
    """Have the API not show codes on the next pages without a window, and then again, as they were."""
    last = len(calls_of_an_audit(mirror)) + pages

    async def on_answer(_record: RequestRecord) -> None:
        if len(calls_of_an_audit(mirror)) >= last:
            mirror.simulator.on_answer = None
            mirror.world.codes.put(codes)

    for code in codes:
        mirror.world.hard_delete_code(code.id)
    mirror.simulator.on_answer = on_answer


def calls_of_an_audit(mirror: Mirror) -> list[RequestRecord]:
    return [
        record for record in mirror.requests()
        if record.operation is Operation.GET_CODES and record.body is not None and "UpdatedUtc" not in record.body
    ]  # fmt: skip


def equal(report: AuditReport) -> list[int]:
    """How many codes are equal, voucher by voucher."""
    return sorted(voucher.counts[Difference.EQUAL] for voucher in report.vouchers.values())


@pytest.mark.long
async def test_many_vouchers_are_listed_in_as_many_calls_as_they_have_pages(mirror: Mirror) -> None:
    await filled(mirror, 60, 40)
    report = await audit(mirror.connection, LOOK)
    assert len(calls_of_an_audit(mirror)) == 3
    assert (equal(report), report.codes) == ([40] * 60, 2400)


@pytest.mark.long
async def test_what_drifted_in_many_vouchers_is_looked_at_in_one_call(mirror: Mirror) -> None:
    made = await filled(mirror, 30, 5)
    await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE value LIKE '%-3'")
    report = await audit(mirror.connection, REPAIR)
    assert len(calls_of_an_audit(mirror)) == 2
    assert all(report.vouchers[voucher.id].repaired == 1 for voucher, _ in made)
    assert (report.drift, report.repaired, report.is_clean) == (30, 30, True)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_codes_missing_from_many_vouchers_are_looked_for_in_one_listing(mirror: Mirror) -> None:
    made = await filled(mirror, 30, 50)
    for _, codes in made:
        mirror.world.hard_delete_code(codes[0].id)
    report = await audit(mirror.connection, REPAIR)
    assert len(calls_of_an_audit(mirror)) == 4
    assert (report.drift, report.repaired) == (30, 30)
    assert all(report.vouchers[voucher.id].counts[Difference.ONLY_MIRRORED] == 1 for voucher, _ in made)


@pytest.mark.long
async def test_what_is_gone_from_many_vouchers_costs_no_second_listing(mirror: Mirror) -> None:
    """Neither does what moved to a page behind us, also where it was deleted meanwhile."""
    made = await filled(mirror, 10, 1000)
    for _, codes in made:
        mirror.world.hard_delete_code(codes[0].id)
    moved, deleted = on_pages([code for _, codes in made for code in codes[1:]])[-2:]

    def move(_record: RequestRecord) -> None:
        mirror.world.edit_code(moved.id, value="MOVED")
        mirror.world.delete_code(deleted.id)

    at_page(mirror, 1, move)
    before = len(mirror.requests())
    report = await audit(mirror.connection, REPAIR)
    assert len(mirror.requests()) - before <= 10 + 4
    assert (report.drift, report.repaired) == (10, 10)
    assert all(report.vouchers[voucher.id].counts[Difference.ONLY_MIRRORED] == 1 for voucher, _ in made)


@pytest.mark.long
@pytest.mark.parametrize("validity", Validity, ids=str)
async def test_what_a_listing_left_out_is_not_gone(mirror: Mirror, validity: Validity) -> None:
    """As by an API that pages by something that is not distinct: its codes stand as they were, active or not. Nor if
    its search by value finds no code that is of no use at present.
    """
    mirror.simulator.behaviour.values_usable_only = validity is not Validity.USABLE
    made = await filled(mirror, 5, 1000)
    mirror.world.delete_code(made[0][1][0].id)
    for _, codes in made[1:]:
        make_valid(mirror, codes[0], validity)
    await later(mirror)
    left_out = [mirror.world.codes.truth[codes[0].id] for _, codes in made]
    leave_out_of_a_listing(mirror, left_out, pages=5)
    report = await audit(mirror.connection, REPAIR)
    assert report.drift == 0


async def test_what_is_gone_is_found_also_where_the_api_s_clock_was_put_back_since_a_pull(mirror: Mirror) -> None:
    """No window shows then what has changed since."""
    made = await filled(mirror, 5, 1000)
    mirror.clock.advance(-timedelta(hours=2))
    for _, codes in made:
        mirror.world.hard_delete_code(codes[0].id)
    report = await audit(mirror.connection, REPAIR)
    assert (report.drift, report.repaired) == (5, 5)


@pytest.mark.long
async def test_a_search_that_finds_what_is_over_saves_the_second_listing_of_that_too(mirror: Mirror) -> None:
    made = await filled(mirror, 10, 1000)
    for _, codes in made:
        for code in codes[:2]:
            make_valid(mirror, code, Validity.OVER)
        make_valid(mirror, codes[2], Validity.TO_COME)
    await later(mirror)
    for _, codes in made:
        mirror.world.hard_delete_code(codes[0].id)
    before = len(mirror.requests())
    report = await audit(mirror.connection, REPAIR)
    assert len(mirror.requests()) - before <= 10 + 4
    assert (report.drift, report.repaired) == (10, 10)


@pytest.mark.parametrize("most", [250, 1000], ids=["a smaller page", "fewer vouchers"])
async def test_what_is_too_heavy_is_asked_for_in_smaller_parts(mirror: Mirror, most: int) -> None:
    await filled(mirror, 8, 60)

    def is_too_heavy(body: Mapping[str, Any]) -> bool:
        is_small = len(body["VoucherIds"]) <= 2 if most == 1000 else body["Limitation"]["Count"] <= most
        return "UpdatedUtc" not in body and not is_small

    fail_where(mirror, is_too_heavy, web.HTTPRequestTimeout)
    report = await audit(mirror.connection, LOOK)
    assert (equal(report), report.errors, report.codes) == ([60] * 8, [], 480)


async def test_a_voucher_that_is_too_heavy_alone_does_not_cost_the_others(mirror: Mirror) -> None:
    made = await filled(mirror, 8, 5)
    heavy = made[3][0].id
    fail_where(
        mirror, lambda body: "UpdatedUtc" not in body and str(heavy) in body["VoucherIds"], web.HTTPRequestTimeout
    )
    report = await audit(mirror.connection, REPAIR)
    assert (equal(report), len(report.errors), report.drift) == ([0] + [5] * 7, 1, 0)
    assert report.vouchers[heavy].error is not None


@pytest.mark.long
async def test_a_listing_whose_cursor_is_gone_begins_anew_and_counts_each_code_once(mirror: Mirror) -> None:
    made = await filled(mirror, 3, 500)
    last = on_pages([code for _, codes in made for code in codes])[999]
    at_page(mirror, 1, lambda _record: mirror.world.hard_delete_code(last.id))
    report = await audit(mirror.connection, REPAIR)
    assert report.errors == []
    assert sum(equal(report)) + report.drift == 1500
    assert {len(ids(record)) for record in calls_of_an_audit(mirror)[:3]} == {3}


@pytest.mark.long
async def test_a_code_that_drifted_to_another_voucher_is_mended(mirror: Mirror) -> None:
    (voucher, _), (_, codes) = await filled(mirror, 2, 5)
    await mirror.execute(
        "UPDATE mews.voucher_codes SET voucher_id = :other WHERE id = :id", other=voucher.id, id=codes[0].id
    )
    report = await audit(mirror.connection, REPAIR)
    assert (report.drift, report.repaired) == (1, 1)
    assert (await mirror.compare()).is_equal
