"""Each change is told once, whoever tells it and whatever is away meanwhile."""

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from sync.alerts import run
from sync.alerts.conditions import LASTS_S
from sync.fleet import changes
from sync.fleet.purge import purge
from sync.postgres.engine import in_transaction, transaction
from tests.alerts.helpers import Time, alerting, hold_one, set_state, told
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox
from tests.support.proxy import Proxy
from tests.support.receiver import Receiver


async def test_a_failure_is_told_once_it_has_lasted_and_so_is_its_end(mirror: Mirror, receiver: Receiver) -> None:
    time = Time()
    async with alerting(mirror.database_url, receiver, time) as alerter:
        await set_state(mirror, "the API is away")
        for time.now_s in (0, LASTS_S - 1):
            await alerter.look()
        assert told(receiver) == []
        for time.now_s in (LASTS_S, LASTS_S + 10, 10 * LASTS_S):
            await alerter.look()
        assert told(receiver) == [("raised", "failing")]
        await set_state(mirror, None)
        for time.now_s in (11 * LASTS_S, 13 * LASTS_S, 14 * LASTS_S):
            await alerter.look()
    assert told(receiver) == [("raised", "failing"), ("ended", "failing")]
    assert receiver.calls[0].json["changes"][0]["summary"] == "fails: the API is away"


async def test_it_tells_since_when_as_status_does_and_not_when_it_was_told(mirror: Mirror, receiver: Receiver) -> None:
    time = Time()
    async with alerting(mirror.database_url, receiver, time) as alerter:
        since = []
        for error, at in (("the API is away", "now() - interval '40 s'"), (None, "now() + interval '1 s'")):
            await set_state(mirror, error)
            await mirror.execute(f"UPDATE sync.connections SET state_since = date_trunc('second', {at})")
            await alerter.look()
            time.now_s += LASTS_S
            await alerter.look()
            since += [row["state_since"] for row in await mirror.rows("SELECT state_since FROM sync.connections")]
    assert [datetime.fromisoformat(call.json["changes"][0]["since"]) for call in receiver.calls] == since


@pytest.mark.parametrize("column", ["paused_at", "removed_at"])
async def test_of_a_connection_that_is_paused_or_removed_no_failure_is_told_any_more(
    mirror: Mirror, receiver: Receiver, column: str
) -> None:
    time = Time()
    async with alerting(mirror.database_url, receiver, time) as alerter:
        await set_state(mirror, "the API is away")
        for time.now_s in (0, LASTS_S):
            await alerter.look()
        await mirror.execute(f"UPDATE sync.connections SET {column} = now()")
        for time.now_s in (2 * LASTS_S, 3 * LASTS_S, 4 * LASTS_S, 9 * LASTS_S):
            await alerter.look()
    assert told(receiver) == [("raised", "failing"), ("ended", "failing")]


async def test_the_end_of_a_failure_is_told_also_where_its_connection_is_purged_at_once(
    mirror: Mirror, receiver: Receiver
) -> None:
    """As by `connections remove --purge`; then nothing is left of it here either."""
    time = Time()
    async with alerting(mirror.database_url, receiver, time) as alerter:
        await set_state(mirror, "the API is away")
        for time.now_s in (0, LASTS_S):
            await alerter.look()
        await in_transaction(mirror.connection.engine, lambda tx: changes.remove(tx, "default"))
        await purge(mirror.connection.engine, "default")
        assert await mirror.rows("SELECT name FROM sync.connections") == []
        for time.now_s in (2 * LASTS_S, 3 * LASTS_S, 4 * LASTS_S, 9 * LASTS_S):
            await alerter.look()
    assert told(receiver) == [("raised", "failing"), ("ended", "failing")]
    assert await mirror.rows("SELECT kind FROM sync.alerts") == []


@pytest.mark.long
async def test_a_failure_that_passes_by_itself_is_not_told(mirror: Mirror, receiver: Receiver) -> None:
    time = Time()
    async with alerting(mirror.database_url, receiver, time) as alerter:
        for time.now_s in range(0, 300, 10):
            await set_state(mirror, "a read timed out" if time.now_s % 20 else None)
            await alerter.look()
    assert told(receiver) == []


@pytest.mark.long
async def test_a_restart_tells_nothing_twice_and_ends_nothing(mirror: Mirror, receiver: Receiver) -> None:
    await set_state(mirror, "the API is away")
    for _ in range(3):
        time = Time()
        async with alerting(mirror.database_url, receiver, time) as alerter:
            for time.now_s in (0, LASTS_S, 2 * LASTS_S):
                await alerter.look()
    assert told(receiver) == [("raised", "failing")]


async def test_of_many_processes_one_tells(mirror: Mirror, outbox: Outbox, receiver: Receiver) -> None:
    await hold_one(mirror, outbox)
    time = Time()
    async with (
        alerting(mirror.database_url, receiver, time) as one,
        alerting(mirror.database_url, receiver, time) as two,
        alerting(mirror.database_url, receiver, time) as three,
    ):
        await asyncio.gather(*(each.look() for each in (one, two, three)))
        await asyncio.gather(*(each.look() for each in (one, two, three)))
    assert told(receiver) == [("raised", "changes_held")]


async def test_what_is_held_is_told_at_once_and_without_any_code(
    mirror: Mirror, outbox: Outbox, receiver: Receiver
) -> None:
    await hold_one(mirror, outbox)
    async with alerting(mirror.database_url, receiver, Time()) as alerter:
        await alerter.look()
    (call,) = receiver.calls
    assert call.json["changes"][0]["summary"] == "changes held until somebody releases them: 1"
    assert b"HUSH" not in call.body


async def test_a_database_that_is_away_is_told_once_and_what_was_told_is_noted_when_it_is_back(
    mirror: Mirror, receiver: Receiver
) -> None:
    proxy, time = Proxy(mirror.database_url), Time()
    async with proxy.served(), alerting(proxy.url, receiver, time) as alerter:
        await alerter.look()
        proxy.is_down = True
        proxy.cut()
        for time.now_s in (10, 10 + LASTS_S, 20 + LASTS_S, 100 + LASTS_S):
            await alerter.look()
        assert told(receiver) == [("raised", "failing")]
        began = datetime.fromisoformat(receiver.calls[0].json["changes"][0]["since"])
        assert LASTS_S <= (datetime.now(UTC) - began).total_seconds() < LASTS_S + 10, "not since it was told"
        proxy.is_down = False
        time.now_s = 200
        await alerter.look()
        rows = await mirror.rows("SELECT kind, level, told_level FROM sync.alerts")
        assert rows == [{"kind": "failing", "level": 1, "told_level": 1}]
        for time.now_s in (300, 400):
            await alerter.look()
    assert told(receiver) == [("raised", "failing"), ("ended", "failing")]
    ended = datetime.fromisoformat(receiver.calls[1].json["changes"][0]["since"])
    assert ended > began, "not since the state that the database had noted before"


async def test_a_database_that_hangs_is_away_since_it_was_asked_and_not_since_that_was_given_up(
    mirror: Mirror, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LOOK_TAKES_S", 0.2)
    time = Time()
    async with alerting(mirror.database_url, receiver, time) as alerter, transaction(mirror.connection.engine) as tx:
        await tx.execute(text("LOCK TABLE sync.alerts"))
        for _ in range(2):
            looking = asyncio.create_task(alerter.look())
            await asyncio.sleep(0)  # it has begun
            time.now_s += LASTS_S
            await looking
    began = datetime.fromisoformat(receiver.calls[0].json["changes"][0]["since"])
    assert 2 * LASTS_S <= (datetime.now(UTC) - began).total_seconds() < 2 * LASTS_S + 10


async def test_a_process_that_reads_nothing_says_so(mirror: Mirror, receiver: Receiver) -> None:
    time = Time()
    async with alerting(mirror.database_url, receiver, time, lambda: ["default"] * (time.now_s < 100)) as alerter:
        for time.now_s in (0, LASTS_S, 100, 100 + LASTS_S):
            await alerter.look()
    assert told(receiver) == [("raised", "no_progress"), ("ended", "no_progress")]


async def test_a_look_that_finds_nothing_new_writes_nothing(mirror: Mirror, outbox: Outbox, receiver: Receiver) -> None:
    await hold_one(mirror, outbox)
    async with alerting(mirror.database_url, receiver, Time()) as alerter:
        await alerter.look()
        before = await mirror.rows("SELECT xmin, ctid FROM sync.alerts")
        await alerter.look()
    assert await mirror.rows("SELECT xmin, ctid FROM sync.alerts") == before


async def test_what_a_newer_release_tells_of_is_left_to_it(mirror: Mirror, outbox: Outbox, receiver: Receiver) -> None:
    await hold_one(mirror, outbox)
    await mirror.execute(
        "INSERT INTO sync.alerts (connection, kind, level, summary, since) "
        "VALUES ('default', 'of_tomorrow', 1, '', now())"
    )
    async with alerting(mirror.database_url, receiver, Time()) as alerter:
        await alerter.look()
    assert told(receiver) == [("raised", "changes_held")]
    (left,) = await mirror.rows("SELECT level, claimed_until FROM sync.alerts WHERE kind = 'of_tomorrow'")
    assert left == {"level": 1, "claimed_until": None}


async def test_a_look_that_meets_a_fault_of_ours_is_not_the_last_one(
    mirror: Mirror, outbox: Outbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LOOK_S", 0.01)
    faults = [KeyError("unforeseen")]

    def stuck() -> list[str]:
        if faults:
            raise faults.pop()
        return []

    await hold_one(mirror, outbox)
    async with alerting(mirror.database_url, receiver, Time(), stuck) as alerter:
        looking = asyncio.create_task(alerter.run())
        await asyncio.wait([looking, asyncio.create_task(receiver.call(1))], return_when=asyncio.FIRST_COMPLETED)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    assert told(receiver) == [("raised", "changes_held")]
