"""Who was taken for dead and comes back gets its share once it has beaten steadily, and others need not wait for it."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.fleet.liveness import BEAT_S, DEAD_AFTER_S, LATE_S, OWED_AT_MOST_S, Steadiness
from sync.fleet.membership import Membership
from tests.fleet.members import HOTELS, Time, joining, owners, share

AWAY_S = 14.0


def beating(steadiness: Steadiness, from_s: float, until_s: float) -> Steadiness:
    at_s = from_s
    while at_s < until_s:
        at_s += BEAT_S
        steadiness = steadiness.after(at_s, was_dead=False)
    return steadiness


@pytest.mark.parametrize(("away_s", "owed_s"), [(DEAD_AFTER_S, DEAD_AFTER_S), (24.0, 24.0), (3600.0, OWED_AT_MOST_S)])
def test_it_owes_as_long_as_it_was_away_and_a_minute_at_most(away_s: float, owed_s: float) -> None:
    back_s = 100 + away_s
    back = Steadiness().after(100, was_dead=False).after(back_s, was_dead=True)
    assert beating(back, back_s, back_s + owed_s - BEAT_S).is_owed()
    assert not beating(back, back_s, back_s + owed_s).is_owed()


def test_a_late_beat_begins_it_anew_and_one_after_that_owes_nothing() -> None:
    back = Steadiness().after(100, was_dead=False).after(112, was_dead=True)
    late_s = 122 + LATE_S
    late = beating(back, 112, 122).after(late_s, was_dead=False)
    assert beating(late, late_s, late_s + 10).is_owed()
    paid = beating(late, late_s, late_s + 12)
    assert not paid.is_owed()
    assert not paid.after(paid.beat_s + LATE_S, was_dead=False).is_owed(), "it was not taken for dead since"


def test_who_begins_owes_nothing() -> None:
    assert not Steadiness().after(1000, was_dead=False).is_owed()


async def come_back(engines: list[AsyncEngine], one: Membership, heir: Membership, time: Time) -> None:
    """Both have their share, then the heir has all, and the other shows that it lives."""
    await share(one, heir)
    for _ in range(int(AWAY_S / BEAT_S)):
        time.now_s += BEAT_S
        await heir.beat()
    assert await owners(engines[2]) == {heir.replica.process: HOTELS}
    await one.beat()


async def test_it_gets_its_share_after_as_long_as_it_was_away(engines: list[AsyncEngine], time: Time) -> None:
    one, heir = joining(engines[0]), joining(engines[1])
    await come_back(engines, one, heir, time)
    for _ in range(int(AWAY_S / BEAT_S) - 1):
        time.now_s += BEAT_S
        await share(heir, one, rounds=1)
        assert await owners(engines[1]) == {heir.replica.process: HOTELS}
    time.now_s += BEAT_S
    await share(one, heir, rounds=2)
    assert await owners(engines[1]) == {heir.replica.process: HOTELS // 2, one.replica.process: HOTELS // 2}


async def test_who_joins_meanwhile_does_not_wait_for_it(engines: list[AsyncEngine], time: Time) -> None:
    one, heir, newcomer = (joining(engine) for engine in engines)
    await come_back(engines, one, heir, time)
    await share(heir, one, newcomer, rounds=2)
    assert await owners(engines[1]) == {heir.replica.process: HOTELS // 2, newcomer.replica.process: HOTELS // 2}


async def test_where_nobody_else_lives_it_takes_all_at_once(engines: list[AsyncEngine], time: Time) -> None:
    one, heir = joining(engines[0]), joining(engines[1])
    await come_back(engines, one, heir, time)
    await heir.leave()
    await one.beat()
    for _ in range(int(DEAD_AFTER_S / BEAT_S)):
        time.now_s += BEAT_S
        await one.beat()
    assert await owners(engines[0]) == {one.replica.process: HOTELS}


async def test_it_keeps_what_nobody_has_taken(engines: list[AsyncEngine], time: Time) -> None:
    one, heir = joining(engines[0]), joining(engines[1])
    await come_back(engines, one, heir, time)
    await heir.release([f"hotel {number}" for number in range(3)])
    await heir.leave()
    await one.beat()
    assert (await owners(engines[0]))[one.replica.process] == 3
    third = joining(engines[2])
    found = await one.beat()
    assert found.give_back == ()
    await third.beat()
    assert (await owners(engines[0]))[one.replica.process] == 3
