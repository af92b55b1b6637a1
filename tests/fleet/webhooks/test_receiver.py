"""Events of a simulated vendor come to what the API shows, however often, late or in whatever order they come."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog

from sync.demo.simulator import Operation
from sync.fleet import changes
from sync.fleet.changes import why_no_name
from sync.fleet.tokens import TokenBox, TokenOf, new_key
from sync.fleet.webhooks import store
from sync.fleet.webhooks.work import work_off
from sync.mirror.discover import discover
from sync.postgres.engine import in_transaction
from tests.fleet.webhooks.vendor import Vendor, state
from tests.support.mirror import CLIENT_TOKEN, Mirror
from tests.support.two_tokens import second


@pytest.mark.long
async def test_a_hotel_joins_pauses_goes_on_changes_its_token_and_leaves(vendor: Vendor, hotel: str) -> None:
    world = vendor.mirror.world
    assert await vendor.created(hotel) == 202
    assert await vendor.states() == []  # nothing counts before it is verified
    await vendor.work_off_all()
    assert await vendor.states() == [state()]
    first = world.tokens.pop(hotel)
    await vendor.send("IntegrationDisabled")
    await vendor.work_off_all()
    assert await vendor.states() == [state(paused_because="Mews: IntegrationDisabled")]
    world.tokens[hotel] = first
    await vendor.send("IntegrationEnabled")
    await vendor.work_off_all()
    assert await vendor.states() == [state()]
    await vendor.send("IntegrationApiKeyCreated", ApiKey="token-2")
    await vendor.work_off_all()
    del world.tokens[hotel]
    await vendor.send("IntegrationCanceled")
    await vendor.work_off_all()
    assert await vendor.states() == [state()]  # the token that it has now is taken as before
    del world.tokens["token-2"]
    await vendor.send("IntegrationDeleted")
    await vendor.work_off_all()
    assert await vendor.states() == [state(is_removed=True)]


@pytest.mark.long
async def test_what_is_verified_counts_among_the_calls_that_all_make_of_the_address(vendor: Vendor, hotel: str) -> None:
    under_way: list[int] = []

    async def look(_operation: Operation, _body: Any) -> None:
        under_way.extend(cap.in_flight for cap in vendor.pools.caps.values())

    vendor.mirror.simulator.on_request = look
    await vendor.created(hotel)
    await vendor.work_off_all()
    assert under_way == [1]


@pytest.mark.long
async def test_what_is_forged_comes_to_nothing(vendor: Vendor, hotel: str) -> None:
    await vendor.created(hotel)
    await vendor.work_off_all()
    assert await vendor.post(b"{}", secret="a-guess-of-the-path") == 404
    for action in ("IntegrationDisabled", "IntegrationCanceled", "IntegrationDeleted"):
        await vendor.send(action)
    await vendor.send("IntegrationApiKeyCreated", ApiKey="nobody-s-token")
    await vendor.created("nobody-s-token", "Nowhere", "i-2")
    await vendor.work_off_all()
    assert await vendor.states() == [state()]
    waiting = await vendor.mirror.rows("SELECT id FROM sync.integration_events WHERE finished_at IS NULL")
    assert waiting == []
    kept = await vendor.mirror.rows("SELECT id FROM sync.integration_events WHERE access_token IS NOT NULL")
    assert kept == []


@pytest.mark.long
async def test_a_token_of_another_hotel_takes_nobody_s_place(vendor: Vendor, hotel: str) -> None:
    vendor.mirror.world.add_token("foreign", name="foreign", enterprise_ids=[vendor.mirror.hotel.id])
    await vendor.created(hotel)
    await vendor.work_off_all()
    own = await vendor.mirror.rows("SELECT id FROM mews.enterprises")
    await vendor.mirror.execute(
        "UPDATE sync.connections SET enterprise_ids = ARRAY[CAST(:hotel AS uuid)] WHERE name = 'Hotel B'",
        hotel=next(one.id for one in vendor.mirror.world.enterprises.values() if one.name == "Hotel B"),
    )
    before = await vendor.mirror.rows("SELECT access_token FROM sync.connections WHERE name = 'Hotel B'")
    await vendor.send("IntegrationApiKeyCreated", ApiKey="foreign")
    await vendor.work_off_all()
    assert await vendor.mirror.rows("SELECT access_token FROM sync.connections WHERE name = 'Hotel B'") == before
    assert own == []


async def test_a_person_s_pause_is_a_person_s_to_end(vendor: Vendor, hotel: str) -> None:
    await vendor.created(hotel)
    await vendor.work_off_all()
    await vendor.mirror.execute(
        "UPDATE sync.connections SET paused_at = now(), paused_because = 'for repairs' WHERE name = 'Hotel B'"
    )
    await vendor.send("IntegrationEnabled")
    await vendor.work_off_all()
    assert await vendor.states() == [state(paused_because="for repairs")]


async def test_a_connection_that_a_command_added_follows_its_integration(vendor: Vendor, mirror: Mirror) -> None:
    other = mirror.world.add_enterprise("Hotel C")
    async with second(mirror, "lake", [other.id]) as connection:
        await discover(connection)
        await vendor.created("the-token-of-lake", "Hotel C")
        await vendor.work_off_all()
    assert await vendor.states() == [state(name="lake", origin="command")]


async def test_it_does_so_too_where_one_that_had_come_with_it_was_removed(vendor: Vendor, hotel: str) -> None:
    await vendor.created(hotel)
    await vendor.work_off_all()
    await in_transaction(vendor.receiver.engine, lambda tx: changes.remove(tx, "Hotel B"))
    hotels = [one.id for one in vendor.mirror.world.enterprises.values() if one.name == "Hotel B"]
    async with second(vendor.mirror, "lake", hotels) as connection:
        await discover(connection)
        await vendor.created("the-token-of-lake")
        await vendor.work_off_all()
    assert await vendor.states() == [
        state(integration_id=None, is_removed=True),
        state(name="lake", origin="command"),
    ]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
async def test_replays_in_any_order_lead_to_what_the_api_shows(vendor: Vendor, hotel: str, seed: int) -> None:
    del vendor.mirror.world.tokens["token-1"]  # it was given another one since
    sends: list[Callable[[], Awaitable[int]]] = [
        lambda: vendor.created("token-1"),
        lambda: vendor.send("IntegrationApiKeyCreated", ApiKey="token-2"),
        lambda: vendor.send("IntegrationDisabled"),
        lambda: vendor.send("IntegrationEnabled"),
    ]
    order = [*sends, *sends]
    random.Random(seed).shuffle(order)
    for send in order:
        assert await send() == 202
    await vendor.work_off_all()
    assert await vendor.states() in ([state()], [state(name="i-1")])


@pytest.mark.parametrize("name", ["default", "-", "-default", "  "])
async def test_a_hotel_gets_a_name_that_commands_take(vendor: Vendor, hotel: str, name: str) -> None:
    await vendor.created(hotel, name)
    await vendor.work_off_all()
    (found,) = await vendor.states()
    assert (why_no_name(found["name"]), "i-1" in found["name"]) == (None, True)


async def test_an_event_that_no_key_reads_keeps_no_other_back_and_waits_for_its_key(vendor: Vendor, hotel: str) -> None:
    await vendor.created(hotel)
    keys = vendor.receiver.box
    vendor.receiver = replace(vendor.receiver, box=TokenBox([new_key()]))
    await vendor.send("IntegrationDisabled", "i-2")
    assert [await work_off(vendor.receiver) for _ in range(3)] == [True, True, False]
    assert await vendor.rows("finished_at IS NULL") == ["IntegrationCreated"]
    vendor.receiver = replace(vendor.receiver, box=keys)
    await vendor.work_off_all()
    assert await vendor.states() == [state()]


async def test_an_action_of_a_newer_release_is_left_to_it(vendor: Vendor, hotel: str) -> None:
    await vendor.send("IntegrationDisabled", "i-2")
    await vendor.mirror.execute("UPDATE sync.integration_events SET action = 'IntegrationMoved'")
    await vendor.created(hotel)
    await vendor.work_off_all()
    assert (await vendor.states(), await vendor.rows("finished_at IS NULL")) == ([state()], ["IntegrationMoved"])


async def test_what_the_database_refuses_of_an_event_is_tried_again(vendor: Vendor, hotel: str) -> None:
    await vendor.mirror.execute("ALTER TABLE sync.connections ADD CONSTRAINT closed CHECK (origin <> 'webhook')")
    await vendor.created(hotel)
    assert await work_off(vendor.receiver)
    assert await vendor.rows("finished_at IS NULL AND outcome LIKE '%closed%'") == ["IntegrationCreated"]
    await vendor.mirror.execute("ALTER TABLE sync.connections DROP CONSTRAINT closed")
    await vendor.work_off_all()
    assert await vendor.states() == [state()]


async def test_what_a_person_does_while_the_api_is_asked_stands(vendor: Vendor, hotel: str) -> None:
    await vendor.created(hotel)
    await vendor.work_off_all()
    del vendor.mirror.world.tokens[hotel]

    async def pause(_operation: object, _body: object) -> None:
        await vendor.mirror.execute(
            "UPDATE sync.connections SET paused_at = now(), paused_because = 'for repairs' WHERE name = 'Hotel B'"
        )

    vendor.mirror.simulator.on_request = pause
    await vendor.send("IntegrationDisabled")
    await vendor.work_off_all()
    assert await vendor.states() == [state(paused_because="for repairs")]


@pytest.mark.long
async def test_a_token_that_is_replaced_while_the_api_is_asked_ends_no_connection(vendor: Vendor, hotel: str) -> None:
    await vendor.created(hotel)
    await vendor.work_off_all()
    del vendor.mirror.world.tokens[hotel]
    anew = vendor.receiver.box.encrypt("token-2", TokenOf("Hotel B", vendor.mirror.address, "access"))

    async def rotate(_operation: object, _body: object) -> None:
        await vendor.mirror.execute(
            "UPDATE sync.connections SET access_token = :anew WHERE name = 'Hotel B'", anew=anew
        )

    vendor.mirror.simulator.on_request = rotate
    await vendor.send("IntegrationDeleted")
    await vendor.work_off_all()
    assert await vendor.states() == [state()]


@pytest.mark.parametrize("by_person", ["for repairs", None], ids=["by-a-person", "not"])
async def test_a_connection_that_is_not_removed_for_its_changes_stays_paused_by_whom_it_was(
    vendor: Vendor, hotel: str, by_person: str | None
) -> None:
    await vendor.created(hotel)
    await vendor.work_off_all()
    await vendor.mirror.execute(
        "INSERT INTO mews.vouchers (id, service_id, is_active, connection) "
        "VALUES (gen_random_uuid(), gen_random_uuid(), true, 'Hotel B')"
    )
    await vendor.mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', id, 'A' FROM mews.vouchers"
    )
    if by_person:
        await in_transaction(vendor.receiver.engine, lambda tx: changes.pause(tx, "Hotel B", by_person))
    token = vendor.mirror.world.tokens.pop(hotel)
    await vendor.send("IntegrationDeleted")
    await vendor.work_off_all()
    by_mews = "Mews: the integration was deleted, and changes are not finished"
    assert await vendor.states() == [state(paused_because=by_person or by_mews)]
    vendor.mirror.world.tokens[hotel] = token
    await vendor.send("IntegrationReinstated")
    await vendor.work_off_all()
    assert await vendor.states() == [state(paused_because=by_person)]


async def test_a_flood_is_not_kept(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_WAITING", 5)
    statuses = [await vendor.send("IntegrationDisabled", f"i-{number}") for number in range(8)]
    assert statuses == [202] * 5 + [503] * 3


async def test_what_comes_at_once_is_kept_together_and_the_same_once(vendor: Vendor) -> None:
    sends = [vendor.send("IntegrationDisabled", f"i-{number % 40}") for number in range(60)]
    assert await asyncio.gather(*sends) == [202] * 60
    rows = await vendor.mirror.rows(
        "SELECT count(*) AS events, count(DISTINCT xmin::text) < 20 AS are_kept_together FROM sync.integration_events"
    )
    assert rows == [{"events": 40, "are_kept_together": True}]


@pytest.mark.parametrize(
    ("body", "method", "status"),
    [(b"{" + b" " * 70_000, "POST", 413), (b"nonsense", "POST", 400), (b"", "GET", 405)],
    ids=["long", "nonsense", "GET"],
)
async def test_what_is_no_event_is_answered(vendor: Vendor, body: bytes, method: str, status: int) -> None:
    assert await vendor.post(body, method=method) == status


async def test_no_token_is_kept_readable_nor_told(vendor: Vendor, hotel: str) -> None:
    with structlog.testing.capture_logs() as logs:
        await vendor.created(hotel)
        stored = await vendor.mirror.rows("SELECT * FROM sync.integration_events")
        await vendor.work_off_all()
    assert not [one for one in (hotel, CLIENT_TOKEN) if one in repr(stored) + repr(logs)]
