"""Whatever has drifted is found by one audit and mended; what changes meanwhile is left alone."""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sync.audit.compare import Difference
from sync.audit.report import AuditReport
from sync.audit.run import audit
from sync.core.api_errors import Unauthorized
from sync.core.errors import AuditRunning
from sync.demo.simulator import Code, Operation, RequestRecord, Voucher
from tests.support.flows import LOOK, REPAIR, add_hotel, add_voucher_to, at_page, later, numbered, on_pages
from tests.support.mirror import ACCESS_TOKEN, Mirror


def found(report: AuditReport) -> dict[str, int]:
    """What is found at all, by its name."""
    counts: dict[str, int] = {}
    for voucher in report.vouchers.values():
        for difference, count in voucher.counts.items():
            counts[difference.value] = counts.get(difference.value, 0) + count
    return counts


def is_of_an_audit(record: RequestRecord) -> bool:
    """Whether a request for codes has no time filter."""
    return record.body is not None and "UpdatedUtc" not in record.body


async def filled(mirror: Mirror, count: int = 40) -> tuple[Voucher, list[Code]]:
    """A mirrored voucher with old codes."""
    voucher = mirror.add_voucher()
    codes = mirror.add_codes(voucher, numbered(count))
    await later(mirror)
    return voucher, codes


@pytest.mark.long
async def test_a_true_mirror_has_no_drift(mirror: Mirror) -> None:
    await filled(mirror)
    report = await audit(mirror.connection, REPAIR)
    assert (found(report), report.drift, report.repaired, report.is_clean) == ({"equal": 40}, 0, 0, True)
    assert mirror.simulator.violations == []
    assert await mirror.rows("SELECT FROM sync.audit_pages") == []


DRIFTS = {
    "a value changed": ("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE id = :id", "differing"),
    "a fresher row that is wrong": (
        "UPDATE mews.voucher_codes SET is_active = false, updated_utc = now() WHERE id = :id",
        "differing",
    ),
    "a staler row": (
        "UPDATE mews.voucher_codes SET updated_utc = NULL, created_utc = NULL WHERE id = :id",
        "differing",
    ),
    "a row deleted": ("DELETE FROM mews.voucher_codes WHERE id = :id", "only_there"),
    "a row called missing": ("UPDATE mews.voucher_codes SET missing_since = now() WHERE id = :id", "differing"),
}


@pytest.mark.parametrize("drift", DRIFTS)
async def test_one_audit_finds_and_mends_what_has_drifted(mirror: Mirror, drift: str) -> None:
    _, codes = await filled(mirror)
    statement, difference = DRIFTS[drift]
    await mirror.execute(statement, id=codes[7].id)
    report = await audit(mirror.connection, LOOK)
    assert (found(report), report.repaired, report.is_clean) == ({"equal": 39, difference: 1}, 0, False)
    report = await audit(mirror.connection, REPAIR)
    assert (found(report), report.repaired, report.is_clean) == ({"equal": 39, difference: 1}, 1, True)
    assert (await mirror.compare()).is_equal
    assert (await audit(mirror.connection, LOOK)).drift == 0


@pytest.mark.long
async def test_an_invented_row_is_kept_and_called_missing(mirror: Mirror) -> None:
    voucher, _ = await filled(mirror)
    await mirror.execute(
        "INSERT INTO mews.voucher_codes (id, voucher_id, value, is_active, connection) "
        "VALUES (gen_random_uuid(), :voucher, 'INVENTED', true, 'default')",
        voucher=voucher.id,
    )
    report = await audit(mirror.connection, REPAIR)
    assert (found(report), report.repaired) == ({"equal": 40, "only_here": 1}, 1)
    (row,) = await mirror.rows("SELECT value FROM mews.voucher_codes WHERE missing_since IS NOT NULL")
    assert row["value"] == "INVENTED"
    assert await mirror.rows("SELECT FROM mews.active_voucher_codes WHERE value = 'INVENTED'") == []
    assert (await audit(mirror.connection, LOOK)).drift == 0


@pytest.mark.long
async def test_a_watermark_that_was_moved_forward_hides_nothing_from_it(mirror: Mirror) -> None:
    voucher, _ = await filled(mirror)
    mirror.world.add_codes(voucher.id, ["A", "B"])
    mirror.clock.advance(timedelta(hours=1))
    await mirror.execute("UPDATE sync.watermarks SET complete_through = :instant", instant=mirror.clock())
    report = await audit(mirror.connection, REPAIR)
    assert (found(report), report.repaired) == ({"equal": 40, "only_there": 2}, 2)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_codes_that_no_window_shows_are_brought_by_it(mirror: Mirror) -> None:
    voucher, _ = await filled(mirror)
    mirror.world.add_codes(voucher.id, ["NO-STAMP"], updated_utc=None)
    await later(mirror)
    assert not (await mirror.compare()).is_equal
    assert (await audit(mirror.connection, REPAIR)).repaired == 1
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_code_that_the_api_has_again_is_no_longer_missing(mirror: Mirror) -> None:
    _, codes = await filled(mirror)
    mirror.world.hard_delete_code(codes[3].id)
    assert (await audit(mirror.connection, REPAIR)).repaired == 1
    assert (await audit(mirror.connection, LOOK)).drift == 0
    mirror.world.codes.put([codes[3]])
    report = await audit(mirror.connection, REPAIR)
    assert [voucher.columns for voucher in report.vouchers.values()] == [{"missing_since": 1}]
    assert await mirror.rows("SELECT FROM mews.voucher_codes WHERE missing_since IS NOT NULL") == []


@pytest.mark.long
async def test_a_code_that_moves_between_two_pages_is_not_missing(mirror: Mirror) -> None:
    _, codes = await filled(mirror, 2500)
    last = on_pages(codes)[-1]

    def move(_record: RequestRecord) -> None:
        mirror.world.edit_code(last.id, value="MOVED")

    at_page(mirror, 1, move)
    report = await audit(mirror.connection, REPAIR)
    assert (report.drift, report.repaired) == (0, 0)
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
@pytest.mark.parametrize("calls", [1, 3], ids=["listing", "looking once more"])
async def test_it_asks_for_nothing_while_there_is_much_to_push(mirror: Mirror, calls: int) -> None:
    _, codes = await filled(mirror, 2500)
    await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE id = :id", id=codes[7].id)
    begun = asyncio.Event()
    with ExitStack() as pushing:

        def begin_to_push(_record: RequestRecord) -> None:
            pushing.enter_context(mirror.connection.client.rate_limiter.backlogged())
            begun.set()

        at_page(mirror, calls, begin_to_push)
        auditing = asyncio.create_task(audit(mirror.connection, LOOK))
        await begun.wait()
        for _ in range(10):  # pulls go on meanwhile
            assert (await mirror.pull()).pages == 1
        assert len([record for record in mirror.requests() if is_of_an_audit(record)]) == calls
    assert (await auditing).drift == 1


@pytest.mark.long
async def test_what_a_pull_writes_meanwhile_is_left_alone(mirror: Mirror) -> None:
    voucher, codes = await filled(mirror, 1500)
    first = on_pages(codes)[0]

    async def on_answer(record: RequestRecord) -> None:
        if record.operation is Operation.GET_CODES and is_of_an_audit(record):
            mirror.simulator.on_answer = None
            mirror.world.edit_code(first.id, value="EDITED")
            mirror.world.add_codes(voucher.id, ["ADDED"])
            await later(mirror)

    mirror.simulator.on_answer = on_answer
    report = await audit(mirror.connection, REPAIR)
    assert (report.drift, found(report)[Difference.RECENT]) == (0, 1)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_so_much_that_is_missing_changes_nothing_until_it_is_accepted(mirror: Mirror) -> None:
    _, codes = await filled(mirror)
    await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE id = :id", id=codes[20].id)
    for code in codes[:3]:
        mirror.world.hard_delete_code(code.id)
    report = await audit(mirror.connection, REPAIR)
    assert (report.drift, report.repaired, report.is_clean) == (4, 0, False)
    assert report.braked is not None
    assert "no longer lists 3 of the 40 codes" in report.braked
    assert await mirror.rows("SELECT FROM mews.voucher_codes WHERE missing_since IS NOT NULL") == []
    report = await audit(mirror.connection, replace(REPAIR, accept_loss=True))
    assert (report.drift, report.repaired, report.braked) == (4, 4, None)


@pytest.mark.long
async def test_an_api_that_is_suddenly_empty_is_not_believed(mirror: Mirror) -> None:
    _, codes = await filled(mirror)
    for code in codes:
        mirror.world.hard_delete_code(code.id)
    report = await audit(mirror.connection, replace(REPAIR, max_loss=1.0))
    assert report.repaired == 0
    assert report.braked is not None
    assert "no longer lists 40 of the 40 codes of this connection, which is all of them" in report.braked
    assert report.braked.endswith("run `voucher-sync audit --repair --accept-loss`")
    mirror.connection.identity.is_stored = True
    report = await audit(mirror.connection, REPAIR)
    assert report.braked is not None
    assert report.braked.endswith("run `voucher-sync audit --repair --accept-loss --connection default`")


@pytest.mark.long
async def test_a_voucher_that_the_api_refuses_is_said_to_be_left_out(mirror: Mirror) -> None:
    hotel, service = add_hotel(mirror, "Hotel B")
    lost = add_voucher_to(mirror, service)
    mirror.add_codes(lost, numbered(5, "LOST"))
    await filled(mirror)
    mirror.world.withdraw(ACCESS_TOKEN, hotel.id)
    report = await audit(mirror.connection, REPAIR)
    assert (report.drift, len(report.errors), report.is_clean) == (0, 1, False)
    assert "Invalid VoucherIds" in str(report.vouchers[lost.id].error)


@pytest.mark.long
async def test_an_audit_that_was_left_is_taken_up_where_it_stood(mirror: Mirror) -> None:
    for number in range(2001):  # in three groups, of which two are listed at once
        mirror.add_codes(mirror.add_voucher(f"Voucher {number}"), numbered(1, f"OF-{number}"))
    await later(mirror)
    looks = 0

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        nonlocal looks
        looks += operation is Operation.GET_CODES
        if looks == 4:
            mirror.world.permit(ACCESS_TOKEN, set(Operation) - {Operation.GET_CODES})

    mirror.simulator.on_request = on_request
    with pytest.raises(Unauthorized):
        await audit(mirror.connection, REPAIR)
    mirror.simulator.on_request = None
    mirror.world.permit(ACCESS_TOKEN, Operation)
    before = len(mirror.requests())
    report = await audit(mirror.connection, REPAIR)
    assert len(mirror.requests()) - before in {1, 2, 3}  # the group beside it was cut off too
    assert (found(report), len(report.vouchers)) == ({"equal": 2001}, 2001)


async def test_two_audits_of_a_connection_never_run_at_once(mirror: Mirror) -> None:
    await filled(mirror)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def on_request(_operation: Operation, _body: Mapping[str, Any]) -> None:
        asked.set()
        await answer.wait()

    mirror.simulator.on_request = on_request
    running = asyncio.create_task(audit(mirror.connection, REPAIR))
    await asked.wait()
    with pytest.raises(AuditRunning):
        await audit(mirror.connection, REPAIR)
    answer.set()
    assert (await running).is_clean


@pytest.mark.long
async def test_coverage_tells_of_the_last_audit(mirror: Mirror) -> None:
    voucher, codes = await filled(mirror)
    (row,) = await mirror.rows("SELECT * FROM mews.coverage")
    assert (row["last_audit_at"], row["last_audit_drift"]) == (None, None)
    await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE id = :id", id=codes[0].id)
    await audit(mirror.connection, LOOK)
    (row,) = await mirror.rows("SELECT * FROM mews.coverage")
    (whole,) = await mirror.rows("SELECT * FROM mews.connection_coverage")
    assert (row["voucher_id"], row["last_audit_drift"]) == (voucher.id, 1)
    assert (whole["vouchers"], whole["last_audit_drift"], whole["audited_since"]) == (1, 1, row["last_audit_at"])
    assert whole["complete_through"] == row["complete_through"]
