"""Rows whose voucher or code is not known yet find their connection, or fail once everybody has looked."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from sync.outbox import routing
from sync.outbox.claims import Lane, as_daemon
from sync.outbox.due import Wanted, lock_due
from sync.outbox.routing import Waiting
from sync.outbox.rules import Operation, Status
from tests.support.database import CONNECTION, PATIENCE_S, code, store, uuid
from tests.support.instants import utc
from tests.support.queue import HOTEL, OTHER_VOUCHER, UNKNOWN_VOUCHER, VOUCHER, Outbox, as_user, change, execute


async def assign(outbox: Outbox, connection: str = CONNECTION) -> None:
    async with as_daemon(outbox.engine) as tx:
        await routing.assign(tx, connection)


async def belongs_to(outbox: Outbox, row_id: int) -> tuple[Any, ...]:
    row = await outbox.row(row_id)
    return tuple(row[name] for name in ("connection", "enterprise_id", "voucher_id", "value"))


async def test_a_row_belongs_to_the_connection_that_comes_to_know_its_voucher(outbox: Outbox) -> None:
    add, held = await outbox.add("A", voucher_id=UNKNOWN_VOUCHER), await outbox.add("B", voucher_id=UNKNOWN_VOUCHER)
    await outbox.bring(held, Status.HELD)
    cancelled = await outbox.add("C", voucher_id=UNKNOWN_VOUCHER)
    await outbox.bring(cancelled, Status.CANCELLED)
    await assign(outbox)
    assert await belongs_to(outbox, add) == (None, None, UNKNOWN_VOUCHER, "A")
    await outbox.know(UNKNOWN_VOUCHER.int, connection="other", enterprise_id=uuid(3001))
    await assign(outbox)
    assert await belongs_to(outbox, add) == (None, None, UNKNOWN_VOUCHER, "A")
    await assign(outbox, "other")
    assert await belongs_to(outbox, add) == ("other", uuid(3001), UNKNOWN_VOUCHER, "A")
    assert await belongs_to(outbox, held) == ("other", uuid(3001), UNKNOWN_VOUCHER, "B")
    assert await belongs_to(outbox, cancelled) == (None, None, UNKNOWN_VOUCHER, "C")


async def test_a_row_that_belongs_to_somebody_stays_there(outbox: Outbox) -> None:
    row_id = await outbox.add("A")
    await execute(outbox.engine, "UPDATE mews.vouchers SET connection = 'other'")
    await assign(outbox, "other")
    assert await belongs_to(outbox, row_id) == (CONNECTION, HOTEL, VOUCHER, "A")


async def test_a_delete_by_id_is_adopted_once_its_code_is_mirrored(outbox: Outbox) -> None:
    delete, unknown = [await outbox.queue("delete", voucher_code_id=uuid(number)) for number in (1, 2)]
    await assign(outbox)
    assert await belongs_to(outbox, delete) == (None, None, None, None)
    await store(outbox.engine, code(1, "SUMMER"))
    await assign(outbox)
    assert await belongs_to(outbox, delete) == (CONNECTION, HOTEL, VOUCHER, "SUMMER")
    assert await belongs_to(outbox, unknown) == (None, None, None, None)


async def fail_unknown(outbox: Outbox, discovered: datetime | None, caught_up: datetime | None) -> Waiting:
    async with as_daemon(outbox.engine) as tx:
        return await routing.fail_unknown(tx, CONNECTION, discovered_as_of=discovered, caught_up_as_of=caught_up)


async def test_a_row_of_an_unknown_voucher_fails_after_a_discovery_that_began_later(outbox: Outbox) -> None:
    row_id = await outbox.add("A", voucher_id=UNKNOWN_VOUCHER)
    delete = await outbox.delete("B", voucher_id=UNKNOWN_VOUCHER)
    created_at = (await outbox.row(row_id))["created_at"]
    later = await outbox.now()
    for discovered in (None, created_at - timedelta(microseconds=1)):
        assert await fail_unknown(outbox, discovered, later) == Waiting(discovery=True, pull=False)
        assert await outbox.statuses() == ["pending", "pending"]
    assert await fail_unknown(outbox, later, None) == Waiting(discovery=False, pull=False, failed=2)
    for one in (row_id, delete):
        row = await outbox.row(one)
        assert (row["status"], row["attempts"], row["sent_at"]) == ("failed", 0, None)
        assert row["last_error"] == "the API lists no voucher with this voucher_id to any connection"
        assert row["finished_at"] is not None
        assert await outbox.attempts(one) == []
    assert await outbox.open_attempts() == {}


LATER, EARLIER = timedelta(hours=1), timedelta(hours=-1)


@pytest.mark.parametrize(
    ("discovered", "caught_up", "is_failed"),
    [
        (None, None, False),
        (LATER, None, False),
        (None, LATER, False),
        (LATER, EARLIER, False),
        (EARLIER, LATER, False),
        (LATER, LATER, True),
        (timedelta(), timedelta(), True),
    ],
)
async def test_a_delete_of_an_unknown_id_fails_after_a_discovery_and_a_pull_that_began_later(
    outbox: Outbox, discovered: timedelta | None, caught_up: timedelta | None, is_failed: bool
) -> None:
    row_id = await outbox.queue("delete", voucher_code_id=uuid(1))
    created_at = (await outbox.row(row_id))["created_at"]
    instants = [None if shift is None else created_at + shift for shift in (discovered, caught_up)]
    assert await fail_unknown(outbox, *instants) == Waiting(discovery=False, pull=not is_failed, failed=int(is_failed))
    row = await outbox.row(row_id)
    if is_failed:
        assert row["last_error"] == "the API lists no code with this voucher_code_id to any connection"
    assert row["status"] == ("failed" if is_failed else "pending")


LAKE = """
INSERT INTO sync.connections (name, state, origin, platform_address, access_token, added_at)
VALUES ('lake', 'ok', 'command', 'https://api.example', 'x', now())
"""


@pytest.fixture
async def lake(outbox: Outbox) -> AsyncIterator[None]:
    """Another connection that is at work."""
    await execute(outbox.engine, LAKE)
    yield
    await execute(outbox.engine, "DELETE FROM sync.connections WHERE name = 'lake'")


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("operation", ["add", "delete"])
async def test_what_one_connection_does_not_see_fails_only_once_every_other_has_looked_too(
    outbox: Outbox, operation: str
) -> None:
    unknown = {"voucher_id": UNKNOWN_VOUCHER, "value": "A"} if operation == "add" else {"voucher_code_id": uuid(1)}
    await outbox.queue(operation, **unknown)
    before = (await outbox.now()) - LATER
    now = await outbox.now()
    assert await fail_unknown(outbox, now, now) == Waiting(discovery=False, pull=False)
    for discovered, caught_up in ((before, before), (now, None), (now, now)):
        assert await outbox.statuses() == ["pending"]
        async with as_daemon(outbox.engine) as tx:
            await routing.fail_unknown(tx, "lake", discovered_as_of=discovered, caught_up_as_of=caught_up)
        if operation == "add" and discovered == now:
            break
    assert await outbox.statuses() == ["failed"]


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("operation", ["add", "delete"])
async def test_who_looked_before_a_change_was_queued_has_to_look_again(outbox: Outbox, operation: str) -> None:
    unknown = {"voucher_id": UNKNOWN_VOUCHER, "value": "A"} if operation == "add" else {"voucher_code_id": uuid(1)}
    await outbox.queue(operation, **unknown)
    before, now = (await outbox.now()) - LATER, await outbox.now()
    async with as_daemon(outbox.engine) as tx:
        await routing.fail_unknown(tx, "lake", discovered_as_of=before, caught_up_as_of=before)
    assert await fail_unknown(outbox, now, now) == Waiting(discovery=False, pull=False)
    assert await outbox.statuses() == ["pending"]


NOT_BY_NOW = "state = 'failing', error = 'x', error_kind = '{}', state_since = now() - interval '{} minutes'"


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize(
    ("how", "failed"),
    [
        ("paused_at = now()", 1),
        ("removed_at = now(), access_token = NULL", 1),
        ("origin = 'environment', access_token = NULL, owner = gen_random_uuid()", 1),
        (NOT_BY_NOW.format("Unauthorized", 61), 1),
        (NOT_BY_NOW.format("SettingsError", 61), 1),
        (NOT_BY_NOW.format("Unauthorized", 59), 0),
        (NOT_BY_NOW.format("NotConnected", 3000), 0),
    ],
)
async def test_only_a_connection_that_may_look_again_is_waited_for(outbox: Outbox, how: str, failed: int) -> None:
    await execute(outbox.engine, f"UPDATE sync.connections SET {how} WHERE name = 'lake'")
    await outbox.add("A", voucher_id=UNKNOWN_VOUCHER)
    now = await outbox.now()
    assert (await fail_unknown(outbox, now, now)).failed == failed


async def test_what_is_known_finished_or_held_does_not_fail_as_unknown(outbox: Outbox) -> None:
    await outbox.add("KNOWN")
    for status in (Status.CANCELLED, Status.HELD):
        await outbox.bring(await outbox.add(status.value, voucher_id=UNKNOWN_VOUCHER), status)
    now = await outbox.now()
    assert await fail_unknown(outbox, now, now) == Waiting(discovery=False, pull=False)
    assert await outbox.statuses() == ["pending", "cancelled", "held"]


async def test_what_comes_to_be_known_after_an_adoption_does_not_fail_as_unknown(outbox: Outbox) -> None:
    row_id = await outbox.add("A", voucher_id=UNKNOWN_VOUCHER)
    named = await outbox.queue("delete", voucher_code_id=uuid(1))
    await assign(outbox)
    await outbox.know(UNKNOWN_VOUCHER.int)
    await store(outbox.engine, code(1))
    now = await outbox.now()
    await fail_unknown(outbox, now, now)
    assert await outbox.statuses() == ["pending", "pending"]
    await assign(outbox)
    assert [(await outbox.row(one))["connection"] for one in (row_id, named)] == [CONNECTION, CONNECTION]


async def test_an_unknown_row_that_failed_can_be_retried_and_adopted(outbox: Outbox) -> None:
    row_id = await outbox.add("A", voucher_id=UNKNOWN_VOUCHER)
    now = await outbox.now()
    await fail_unknown(outbox, now, now)
    await outbox.know(UNKNOWN_VOUCHER.int)
    await outbox.change(row_id, status="pending")
    await assign(outbox)
    async with as_daemon(outbox.engine) as tx:
        assert [row.id for row in await lock_due(tx, Wanted(Lane(CONNECTION, Operation.ADD, HOTEL), 9))] == [row_id]


async def test_a_user_s_open_transaction_keeps_nobody_else_s_row_waiting(outbox: Outbox) -> None:
    changing, beside = [await outbox.add(value, voucher_id=UNKNOWN_VOUCHER) for value in "AB"]
    _, theirs = [await outbox.add(value, voucher_id=OTHER_VOUCHER) for value in "AB"]
    named = await outbox.queue("delete", voucher_code_id=uuid(1))
    await outbox.know(UNKNOWN_VOUCHER.int)
    await store(outbox.engine, code(1))
    now = await outbox.now()
    async with asyncio.timeout(PATIENCE_S), as_user(outbox.engine) as tx:
        for row_id in (changing, theirs, named):
            await change(tx, row_id, note="not committed yet")
        await assign(outbox)
        await fail_unknown(outbox, now, now)
    assert await outbox.statuses() == ["pending", "pending", "failed", "pending", "pending"]
    assert [(await outbox.row(row_id))["connection"] for row_id in (changing, beside)] == [None, CONNECTION]
    await assign(outbox)
    await fail_unknown(outbox, now, now)
    assert await outbox.statuses() == ["pending", "pending", "failed", "failed", "pending"]
    assert await belongs_to(outbox, changing) == (CONNECTION, HOTEL, UNKNOWN_VOUCHER, "A")
    assert await belongs_to(outbox, named) == (CONNECTION, HOTEL, VOUCHER, "SUMMER")


async def test_unassigned_rows_are_sorted_out_some_at_a_time(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "MAX_UNASSIGNED", 2)
    for _ in range(3):
        await outbox.add(voucher_id=OTHER_VOUCHER)
        await outbox.add(voucher_id=UNKNOWN_VOUCHER)
    await outbox.know(OTHER_VOUCHER.int)
    async with as_daemon(outbox.engine) as tx:
        assert [await routing.assign(tx, CONNECTION) for _ in range(2)] == [True, False]
    now = await outbox.now()
    async with as_daemon(outbox.engine) as tx:
        found = [
            await routing.fail_unknown(tx, CONNECTION, discovered_as_of=now, caught_up_as_of=now) for _ in range(2)
        ]
    assert found == [Waiting(False, False, more=True, failed=2), Waiting(False, False, failed=1)]
    assert await outbox.statuses() == ["pending", "failed"] * 3


async def test_what_is_retried_or_delayed_waits_for_a_discovery_of_its_own(outbox: Outbox) -> None:
    retried, delayed = await outbox.add(voucher_id=UNKNOWN_VOUCHER), await outbox.add(voucher_id=UNKNOWN_VOUCHER)
    await outbox.change(delayed, not_before=utc(2099, 1, 1))
    now = await outbox.now()
    async with as_daemon(outbox.engine) as tx:
        waiting = await routing.fail_unknown(tx, CONNECTION, discovered_as_of=now, caught_up_as_of=now)
    assert (waiting, await outbox.statuses()) == (Waiting(False, False, failed=1), ["failed", "pending"])
    await outbox.change(retried, status="pending")
    async with as_daemon(outbox.engine) as tx:
        waiting = await routing.fail_unknown(tx, CONNECTION, discovered_as_of=now, caught_up_as_of=now)
    assert (waiting, await outbox.statuses()) == (Waiting(True, False), ["pending", "pending"])
