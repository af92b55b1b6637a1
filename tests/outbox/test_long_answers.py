"""An answer that is longer than it may be: less is asked for, and what a write with such an answer did is looked up."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from sync.audit.run import audit
from sync.core.api_errors import ResponseTooLarge
from sync.demo.simulator import Endless, Operation, Voucher
from tests.support.flows import LOOK, ids, later, mirrored, numbered, page_size, pull_later
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox, active, look_again

LONG = " " * (2**20 + 1)


@pytest.fixture
async def mirror(database_url: str) -> AsyncIterator[Mirror]:
    """As usual, with the smallest limit on answers."""
    mirror = Mirror(database_url)
    async with mirror.opened(sync_max_response_mb=1):
        yield mirror
    assert mirror.simulator.violations == []


def too_long_where(mirror: Mirror, is_concerned: Callable[[Mapping[str, Any]], bool]) -> None:
    """Requests for codes whose body fulfils the condition get more than they may."""

    async def on_request(operation: Operation, body: Mapping[str, Any]) -> None:
        if operation is Operation.GET_CODES and is_concerned(body):
            raise web.HTTPOk(text=LONG, content_type="application/json", headers={"Request-Id": "r-1"})

    mirror.simulator.on_request = on_request


def concerns(voucher: Voucher, over: int = 0) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a request asks for more than so many codes of a voucher."""
    return lambda body: body["Limitation"]["Count"] > over and voucher.id in map(UUID, body["VoucherIds"])


@pytest.mark.long
async def test_a_page_that_is_too_long_is_halved_and_everything_is_mirrored(mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher(), numbered(900))
    await mirror.discover()
    mirror.simulator.faults.script(Operation.GET_CODES, Endless(), times=2)
    report = await mirror.pull()
    assert report.errors == []
    assert [page_size(one) for one in mirror.requests()[:6]] == [1000, 500, 250, 250, 250, 250]
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_pages_that_are_too_long_by_their_size_are_halved_until_they_are_not(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(900))
    too_long_where(mirror, concerns(voucher, over=125))
    await mirror.once()
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_what_is_too_long_at_the_smallest_is_an_error_and_the_other_groups_go_on(mirror: Mirror) -> None:
    other = mirror.add_voucher()
    await mirror.once()
    voucher = mirror.add_voucher("Endless")
    lost = {code.id for code in mirror.add_codes(voucher, numbered(10))}
    too_long_where(mirror, concerns(voucher))
    await mirror.discover()
    for number in range(3):
        before = len(mirror.requests())
        found = mirror.world.add_codes(other.id, [f"NEW-{number}"])
        report = await pull_later(mirror)
        assert {type(error) for error in report.errors} == {ResponseTooLarge}
        assert found[0].id in await mirrored(mirror)
        # Thirty windows of a day at the most, and few calls to find out that none may be longer.
        assert sum(voucher.id in ids(one) for one in mirror.requests()[before:]) < 50
    mirror.simulator.on_request = None
    assert not lost & await mirrored(mirror)
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
@pytest.mark.parametrize("processed", [False, True])
async def test_an_add_with_an_answer_that_is_too_long_is_looked_up(
    mirror: Mirror, outbox: Outbox, processed: bool
) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(30))
    mirror.simulator.faults.script(Operation.ADD_CODES, Endless(processed=processed))
    report = await outbox.pusher.push()
    assert (set(await outbox.statuses()), [type(error) for error in report.errors.values()]) == (
        {"uncertain"},
        [ResponseTooLarge],
    )
    (attempt, *_) = await mirror.rows("SELECT http_status, message FROM mews.voucher_code_outbox_attempts")
    assert (attempt["http_status"], "CODE-" in str(attempt)) == (200, False)
    await look_again(mirror, outbox)
    await outbox.be_due()
    await outbox.pusher.push()
    assert set(await outbox.statuses()) == {"done"}
    assert outbox.calls() == (1 if processed else 2)
    assert active(mirror) == {(voucher.id, value): 1 for value in numbered(30)}
    await later(mirror)
    assert (await mirror.compare()).is_equal


@pytest.mark.long
async def test_a_delete_with_an_answer_that_is_too_long_is_looked_up(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A"])
    await outbox.refresh()
    await outbox.delete(voucher, "A")
    mirror.simulator.faults.script(Operation.DELETE_CODES, Endless())
    await outbox.pusher.push()
    assert await outbox.statuses() == ["uncertain"]
    await look_again(mirror, outbox)
    assert (await outbox.statuses(), outbox.calls(Operation.DELETE_CODES)) == (["done"], 1)


@pytest.mark.long
async def test_a_look_whose_pages_are_too_long_asks_for_less(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, *numbered(300))
    mirror.simulator.faults.script(Operation.ADD_CODES, Endless())
    await outbox.pusher.push()
    too_long_where(mirror, concerns(voucher, over=250))
    await look_again(mirror, outbox)
    assert (set(await outbox.statuses()), outbox.calls()) == ({"done"}, 1)


@pytest.mark.long
async def test_after_an_answer_that_is_too_long_fewer_codes_are_added_at_a_time(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    mirror.simulator.faults.script(Operation.ADD_CODES, Endless(processed=False))
    await outbox.add(voucher, "A")
    await outbox.pusher.push()
    await outbox.add(voucher, *numbered(1000))
    await outbox.pusher.push()
    first = mirror.requests(Operation.ADD_CODES)[1].body
    assert first is not None
    assert len(first["VoucherCodeParameters"]) == 500


@pytest.mark.long
async def test_an_audit_whose_pages_are_too_long_asks_for_less(mirror: Mirror) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(900))
    await later(mirror)
    too_long_where(mirror, concerns(voucher, over=250))
    report = await audit(mirror.connection, LOOK)
    assert (report.drift, report.codes, report.is_clean) == (0, 900, True)
