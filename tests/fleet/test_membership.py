"""Replicas share connections by the database alone: none has two owners, and a dead one's go on."""

import asyncio
import math
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.connection.tenure import Tenure, Trust
from sync.core.errors import Stopped
from sync.fleet import liveness, membership, ownership, replicas
from sync.fleet.parts import OF_KNOWN, OF_NEWCOMER, OF_STARTER
from sync.outbox import claims
from sync.outbox.claims import Lane
from sync.outbox.rules import Operation
from sync.postgres.engine import in_transaction, transaction
from tests.fleet.members import HOTELS, Time, joining, owners, share
from tests.support.claims import attempt_of
from tests.support.statements import statements

OWNERS_READ = "is_of_environment"


async def test_who_is_alone_takes_all_and_gives_half_to_who_joins(engines: list[AsyncEngine], time: Time) -> None:
    first, second = joining(engines[0]), joining(engines[1])
    found = await first.beat()
    assert (len(found.owned), found.members) == (HOTELS, 1)
    assert {one.epoch for one in found.owned.values()} == {1}
    await share(second, first)
    assert await owners(engines[0]) == {first.replica.process: 5, second.replica.process: 5}


async def test_two_that_take_at_once_never_get_the_same(engines: list[AsyncEngine], time: Time) -> None:
    members = [joining(engine) for engine in engines]
    found = await asyncio.gather(*(one.beat() for one in members))
    names = [name for one in found for name in one.owned]
    assert len(names) == len(set(names))
    await share(*members)
    assert sorted((await owners(engines[0])).values()) == [2, 4, 4]


async def test_what_another_has_taken_since_the_look_is_not_taken(engines: list[AsyncEngine], time: Time) -> None:
    seen = await in_transaction(engines[0], ownership.load_owned)
    first, second = uuid4(), uuid4()
    taken = await in_transaction(engines[0], partial(ownership.take, me=first, wanted=seen))
    assert len(taken.epochs) == HOTELS
    assert (await in_transaction(engines[1], partial(ownership.take, me=second, wanted=seen))).epochs == {}
    assert await owners(engines[0]) == {first: HOTELS}


async def test_a_beat_is_one_row_version_however_many_connections(engines: list[AsyncEngine], time: Time) -> None:
    async def versions(tx: AsyncConnection) -> list[str]:
        return list((await tx.execute(text("SELECT xmin::text FROM sync.connections ORDER BY name"))).scalars())

    one = joining(engines[0])
    await one.beat()
    before = await in_transaction(engines[1], versions)
    await one.beat()
    assert await in_transaction(engines[1], versions) == before
    beats = await in_transaction(engines[1], replicas.load_seen)
    assert [(seen.process, seen.beat) for seen in beats] == [(one.replica.process, 2)]


async def test_connections_that_nobody_has_changed_are_not_read_again(engines: list[AsyncEngine], time: Time) -> None:
    one = joining(engines[0])
    await one.beat()
    await one.beat()  # which has read what the first one took
    with statements(engines[0]) as said:
        assert len((await one.beat()).owned) == HOTELS
        assert not any(OWNERS_READ in statement for statement in said)
    async with transaction(engines[1]) as tx:
        await tx.execute(text("UPDATE sync.connections SET paused_at = now() WHERE name = 'hotel 1'"))
    assert len((await one.beat()).owned) == HOTELS - 1


async def test_the_connections_of_a_silent_replica_are_taken_after_ten_seconds_and_never_before(
    engines: list[AsyncEngine], time: Time
) -> None:
    dead, heir = joining(engines[0]), joining(engines[1])
    await share(dead, heir)
    silent_since_s = time.now_s
    while time.now_s < silent_since_s + liveness.DEAD_AFTER_S - 1:
        time.now_s += 1
        assert len((await heir.beat()).owned) == 5
        assert (time.now_s < dead.trust.until_s) == (time.now_s < silent_since_s + liveness.TRUSTED_S)
    time.now_s += 1
    assert len((await heir.beat()).owned) == HOTELS
    assert (await dead.beat()).owned == {}, "it has lost all, and gets its share only when it is given back"


async def test_a_beat_that_took_long_is_trusted_from_its_beginning(
    engines: list[AsyncEngine], time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat, began_s = replicas.beat, time.now_s

    async def slow(*arguments: Any, **options: Any) -> None:
        await beat(*arguments, **options)
        time.now_s += liveness.TRUSTED_S / 2

    monkeypatch.setattr(replicas, "beat", slow)
    one = joining(engines[0])
    await one.beat()
    assert one.trust.until_s == began_s + liveness.TRUSTED_S


@pytest.mark.direct
async def test_a_lock_that_is_free_makes_it_three_seconds(
    engines: list[AsyncEngine], database_url: str, time: Time
) -> None:
    dead, heir = joining(engines[0]), joining(engines[1])
    dead.note_lock(is_held=True)
    key = replicas.lock_key(dead.replica.process)
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as session:
        await session.execute("SELECT pg_advisory_lock(%s)", [key])
        await share(dead, heir)
        time.now_s += liveness.MISSED_S
        assert len((await heir.beat()).owned) == 5
    while key in await in_transaction(engines[2], replicas.load_locked):
        pass  # the server ends a session a moment after its client has
    time.now_s += 1
    assert len((await heir.beat()).owned) == HOTELS


@pytest.mark.direct
async def test_a_lock_that_is_free_since_the_server_began_anew_takes_nobody_for_dead(
    engines: list[AsyncEngine], time: Time
) -> None:
    """All sessions end with a server: who is back first would take everything from who beats a moment later."""
    other, me = joining(engines[0]), joining(engines[1])
    for one in (other, me):
        one.note_lock(is_held=True)
    await share(other, me)
    time.now_s += liveness.MISSED_S
    me.note_lock(is_held=False)
    assert len((await me.beat()).owned) == 5
    me.note_lock(is_held=True)
    time.now_s += liveness.MISSED_S - 0.1
    assert len((await me.beat()).owned) == 5
    time.now_s += 0.1
    assert len((await me.beat()).owned) == HOTELS, "it has shown nothing for as long as it takes to be back"


@pytest.mark.direct
async def test_a_process_that_ended_on_this_machine_is_followed_at_once(engines: list[AsyncEngine], time: Time) -> None:
    dead, heir = joining(engines[0], pid_space="here"), joining(engines[1], pid_space="here")
    dead.note_lock(is_held=True)
    await dead.beat()
    assert len((await heir.beat()).owned) == HOTELS


@pytest.mark.direct
@pytest.mark.parametrize("spaces", [("", ""), ("here", "there")])
async def test_of_two_of_the_same_host_and_number_one_whose_session_ended_lives_on(
    engines: list[AsyncEngine], time: Time, spaces: tuple[str, str]
) -> None:
    """As two clones, or two containers: both are process 1 of a host of this name."""
    members = [joining(engine, pid_space=space) for engine, space in zip(engines, spaces, strict=False)]
    await share(*members)
    for one in members:
        one.note_lock(is_held=True)  # it has not seen yet that the session has ended
    await share(*members)
    assert sorted((await owners(engines[0])).values()) == [5, 5]
    async with engines[0].connect() as connection:
        epochs = (await connection.execute(text("SELECT sum(epoch) FROM sync.connections"))).scalar_one()
    await share(*members)
    async with engines[0].connect() as connection:
        assert (await connection.execute(text("SELECT sum(epoch) FROM sync.connections"))).scalar_one() == epochs


@pytest.mark.long
async def test_the_parts_follow_who_lives_and_who_was_taken_for_dead_begins_anew(
    engines: list[AsyncEngine], time: Time
) -> None:
    first, second = joining(engines[0]), joining(engines[1])
    assert [(await first.beat()).part for _ in range(2)] == [OF_STARTER, OF_KNOWN]
    assert (await second.beat()).part == OF_NEWCOMER
    assert (await first.beat()).part == OF_KNOWN / 2
    await share(first, second)
    for _ in range(10):
        time.now_s += 1
        await share(first, second, rounds=1)
    assert [(await one.beat()).part for one in (first, second)] == [OF_KNOWN / 2] * 2
    for _ in range(11):
        time.now_s += 1
        await share(first, rounds=1)
    assert (await first.beat()).part == OF_KNOWN, "the second is silent"
    assert (await second.beat()).part == OF_NEWCOMER


async def test_who_leaves_is_followed_at_once(engines: list[AsyncEngine], time: Time) -> None:
    leaving, heir = joining(engines[0]), joining(engines[1])
    await share(leaving, heir)
    await leaving.release((await leaving.beat()).owned)
    await leaving.leave()
    assert len((await heir.beat()).owned) == HOTELS


async def test_what_a_leaving_replica_gives_back_is_taken_before_it_has_left(
    engines: list[AsyncEngine], time: Time
) -> None:
    """It may have calls under way for seconds, which are no reason for its other hotels to wait."""
    leaving, heir = joining(engines[0]), joining(engines[1])
    await share(leaving, heir)
    first, *_ = (await leaving.beat()).owned
    await leaving.begin_to_leave()
    await leaving.release([first])
    assert (await heir.beat()).owned.keys() >= {first}
    assert (await owners(engines[0]))[leaving.replica.process] == 4


async def test_who_showed_nothing_new_is_looked_at_again_as_soon_as_it_may_be_dead(
    engines: list[AsyncEngine], time: Time
) -> None:
    other, me = joining(engines[0]), joining(engines[1])
    await share(other, me)
    assert (await me.beat()).look_again_s == math.inf
    time.now_s += liveness.BEAT_S
    assert (await me.beat()).look_again_s == pytest.approx(liveness.MISSED_S - liveness.BEAT_S)
    await other.beat()
    assert (await me.beat()).look_again_s == math.inf


async def test_what_others_got_first_has_the_rest_looked_for_at_once_and_ever_later_while_that_is_in_vain(
    engines: list[AsyncEngine], database_url: str, time: Time
) -> None:
    """Of what is given back at once each of two may want the same: what is left would be nobody's for a beat."""
    one = joining(engines[0])
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("SELECT FROM sync.connections WHERE name IN ('hotel 1', 'hotel 2') FOR UPDATE")
        waits_s = [(await one.beat()).look_again_s for _ in range(7)]
        assert waits_s == [membership.TAKE_AGAIN_S * times for times in (1, 2, 4, 8, 16)] + [liveness.BEAT_S] * 2
        await other.rollback()
    found = await one.beat()
    assert (len(found.owned), found.look_again_s) == (HOTELS, math.inf)


async def test_after_an_outage_of_the_database_nobody_is_dead(engines: list[AsyncEngine], time: Time) -> None:
    members = [joining(engine) for engine in engines[:2]]
    await share(*members)
    time.now_s += 60
    await share(*members)
    assert sorted((await owners(engines[0])).values()) == [5, 5]
    async with engines[0].connect() as connection:
        assert set((await connection.execute(text("SELECT epoch FROM sync.connections"))).scalars()) <= {1, 2}


async def test_a_claim_is_made_only_by_who_owns_the_connection_still(engines: list[AsyncEngine], time: Time) -> None:
    zombie, heir = joining(engines[0]), joining(engines[1])
    mine = (await zombie.beat()).owned["hotel 1"]
    attempt = attempt_of(uuid4(), Lane("hotel 1", Operation.ADD, None))
    tenure = Tenure(zombie.replica.process, mine.epoch, Trust(float("inf")))

    async def claim(tx: AsyncConnection) -> None:
        await claims.claim(tx, attempt, {1: None}, tenure)

    await in_transaction(engines[0], claim)
    await heir.beat()
    time.now_s += liveness.DEAD_AFTER_S / 2
    await heir.beat()
    time.now_s += liveness.DEAD_AFTER_S / 2
    await heir.beat()
    with pytest.raises(Stopped, match="another process"):
        await in_transaction(engines[0], claim)
    assert not tenure.is_trusted()
