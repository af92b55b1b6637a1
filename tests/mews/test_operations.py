"""The operations over real HTTP: every page is read, nothing is asked for that a correct client never asks."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from sync.core.api_errors import InvalidRequest, InvalidResponse, RequestTimedOut
from sync.demo.simulator import Operation, RawBody, Status
from sync.mews import operations
from sync.mews.client import Client
from sync.mews.limits import Window
from tests.mews.helpers import opened
from tests.support.mirror import Mirror

ID = "8c364829-c7ae-4972-b67f-93ea704d7228"


@pytest.fixture
async def api() -> AsyncIterator[Mirror]:
    """The served API; there is no database here."""
    api = Mirror("no database")
    async with api.served():
        yield api


@pytest.fixture
async def client(api: Mirror) -> AsyncIterator[Client]:
    """A client of it without a budget to speak of."""
    async with opened(api) as client:
        yield client


async def test_every_voucher_is_read_page_by_page(api: Mirror, client: Client) -> None:
    rates = [api.world.new_id() for _ in range(3)]
    vouchers = [api.world.add_voucher(api.service.id, f"Voucher {n}", rate_ids=rates) for n in range(1234)]
    pages = [page async for page in operations.vouchers(client, [api.service.id])]
    assert len(pages) == 2
    assert {one.id for page in pages for one in page.vouchers.records} == {one.id for one in vouchers}
    assert {one.rate_id for page in pages for one in page.assignments.records} == set(rates)
    assert api.simulator.violations == []


async def test_enterprises_lead_to_services_and_those_to_vouchers(api: Mirror, client: Client) -> None:
    voucher = api.add_voucher("Summer")
    enterprises = [one async for page in operations.enterprises(client) for one in page.records]
    services = [one async for page in operations.services(client, [enterprises[0].id]) for one in page.records]
    vouchers = [one async for page in operations.vouchers(client, [services[0].id]) for one in page.vouchers.records]
    assert [one.name for one in enterprises] == ["Hotel A"]
    assert [(one.id, one.name, one.type) for one in services] == [(api.service.id, "Stay", "Bookable")]
    assert [(one.id, one.name, one.is_active) for one in vouchers] == [(voucher.id, "Summer", True)]
    assert api.simulator.violations == []


async def test_a_page_of_codes_and_the_next(api: Mirror, client: Client) -> None:
    voucher = api.add_voucher()
    codes = api.add_codes(voucher, ["A", "B", "C"])
    window = Window(api.clock() - timedelta(days=2), api.clock())
    first = await operations.voucher_codes(client, [voucher.id], window, page_size=2, cursor=None)
    second = await operations.voucher_codes(client, [voucher.id], window, page_size=2, cursor=first.cursor)
    assert {one.id for one in [*first.records, *second.records]} == {one.id for one in codes}
    assert (first.is_last(2), second.is_last(2)) == (False, True)
    assert api.simulator.violations == []


async def test_codes_outside_the_window_are_not_read(api: Mirror, client: Client) -> None:
    voucher = api.add_voucher()
    api.add_codes(voucher, ["A"], days_old=3)
    window = Window(api.clock() - timedelta(days=2), api.clock())
    assert (await operations.voucher_codes(client, [voucher.id], window, page_size=2, cursor=None)).records == []


async def test_a_service_that_carries_no_vouchers_is_refused(api: Mirror, client: Client) -> None:
    service = api.world.add_service(api.hotel.id, "Restaurant", carries_vouchers=False)
    with pytest.raises(InvalidRequest):
        _ = [page async for page in operations.vouchers(client, [service.id])]


async def test_too_heavy_a_window_is_the_callers_to_halve(api: Mirror, client: Client) -> None:
    api.simulator.faults.script(Operation.GET_CODES, Status(408))
    window = Window(api.clock() - timedelta(days=2), api.clock())
    with pytest.raises(RequestTimedOut):
        await operations.voucher_codes(client, [api.add_voucher().id], window, page_size=2, cursor=None)
    assert len(api.requests()) == 1


async def test_a_cursor_that_comes_twice_ends_the_reading(api: Mirror, client: Client) -> None:
    enterprise = b'{"Id": "%s", "Name": "Hotel"}' % ID.encode()
    body = b'{"Enterprises": [%s], "Cursor": "%s"}' % (b",".join([enterprise] * 1000), ID.encode())
    api.simulator.faults.script(Operation.GET_ENTERPRISES, RawBody(body), times=9)
    with pytest.raises(InvalidResponse, match="go round in a circle"):
        _ = [page async for page in operations.enterprises(client)]
    assert len(api.simulator.requests) == 2


async def test_the_servers_time_is_asked_for_only_if_no_answer_has_told_it(api: Mirror, client: Client) -> None:
    api.clock.advance(timedelta(hours=-5))
    for _ in range(3):
        told = await operations.server_now(client)
        behind = api.clock() - told
        assert timedelta(0) <= behind < timedelta(seconds=60)
    assert len(api.simulator.requests) == 1
