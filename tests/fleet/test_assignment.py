"""Who works for which connection: shares are fair, each connection has one owner in the end, and few move."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.fleet.assignment import ENVIRONMENT, STORED, Member, Owned, fair_level, plan

BOTH = frozenset({ENVIRONMENT, STORED})


def member(number: int, *kinds: str) -> Member:
    return Member(UUID(int=number), frozenset(kinds) or BOTH)


def owned(number: int, owner: Member | None, kind: str = STORED) -> Owned:
    return Owned(f"hotel {number}", frozenset({kind}), owner.process if owner else None, epoch=0)


def come_to_rest(members: Sequence[Member], connections: Sequence[Owned]) -> tuple[list[Owned], int]:
    """What comes of it once nobody has anything left to do, and how often a connection got another owner."""
    alive, moves = {one.process for one in members}, 0
    known: dict[str, Owned] = {one.name: one for one in connections}
    for _ in range(20):
        before = dict(known)
        for me in members:
            dead = {one.owner for one in known.values() if one.owner and one.owner not in alive}
            found = plan(me, members, list(known.values()), dead)
            moves += len(found.take)
            known |= _taken(me, found.take)
            known |= {name: replace(known[name], owner=None) for name in found.give_back}
        if known == before:
            return list(known.values()), moves
    raise AssertionError("it never came to rest")


def _taken(me: Member, take: Sequence[Owned]) -> dict[str, Owned]:
    return {one.name: replace(one, owner=me.process, epoch=one.epoch + 1) for one in take}


@pytest.mark.long
@given(
    replicas=st.integers(1, 9),
    owners=st.lists(st.integers(0, 12), max_size=60),
    without_key=st.integers(0, 3),
)
def test_it_comes_to_rest_with_fair_shares_wherever_it_begins(
    replicas: int, owners: list[int], without_key: int
) -> None:
    members = [member(number) for number in range(1, replicas + 1)]
    others = [member(100 + number, ENVIRONMENT) for number in range(without_key)]
    connections = [owned(n, member(owner) if owner else None) for n, owner in enumerate(owners)]
    rest, _ = come_to_rest([*members, *others], connections)
    counts = Counter(one.owner for one in rest)
    assert counts.keys() <= {one.process for one in members}
    assert max(counts.values(), default=0) <= fair_level(len(connections), [0] * replicas)


@pytest.mark.parametrize("replicas", [1, 2, 3, 7])
def test_who_joins_is_given_no_more_than_its_share(replicas: int) -> None:
    connections = [owned(number, None) for number in range(500)]
    members = [member(number) for number in range(1, replicas + 2)]
    before, _ = come_to_rest(members[:-1], connections)
    after, moves = come_to_rest(members, before)
    counts = Counter(one.owner for one in after)
    assert moves <= len(connections) / (replicas + 1) + replicas
    assert max(counts.values()) - min(counts.values()) <= replicas + 1


def test_the_environment_s_connection_has_one_owner_and_the_other_is_a_spare() -> None:
    first, second = member(1, ENVIRONMENT), member(2, ENVIRONMENT)
    connection = owned(0, first, ENVIRONMENT)
    for me in (first, second):
        assert plan(me, [first, second], [connection], ()).take == ()
        assert plan(me, [first, second], [connection], ()).give_back == ()
    assert plan(second, [second], [connection], {first.process}).take == (connection,)


def test_of_a_stored_connection_and_the_environment_s_each_of_two_has_one() -> None:
    first, second = member(1), member(2)
    rest, _ = come_to_rest([first, second], [owned(0, first, ENVIRONMENT), owned(1, first)])
    assert {one.owner for one in rest} == {first.process, second.process}


def test_who_can_open_few_is_given_these_and_the_others_share_the_rest() -> None:
    """As while a key is replaced: 60 hotels' tokens have the old one, 30 the new one, which only the first has."""
    first, *others = member(1, "old", "new"), member(2, "old"), member(3, "old")
    all_of_them = [owned(number, None, "old" if number < 60 else "new") for number in range(90)]
    for connections in (all_of_them, [replace(one, owner=others[0].process) for one in all_of_them]):
        rest, moves = come_to_rest([first, *others], connections)
        assert Counter(one.owner for one in rest) == dict.fromkeys([UUID(int=n) for n in (1, 2, 3)], 30)
        assert {one.owner for one in rest if "new" in one.needs} == {first.process}
        assert moves <= 90 + 30, "hardly any moves twice"


@pytest.mark.long
@given(
    has=st.lists(st.sets(st.sampled_from("abc"), min_size=1), min_size=1, max_size=6),
    connections=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8)), max_size=60),
)
def test_whoever_has_which_keys_it_comes_to_rest_and_each_has_who_can_open_it(
    has: list[set[str]], connections: list[tuple[str, int]]
) -> None:
    members = [member(number, *keys) for number, keys in enumerate(has, start=1)]
    before = [owned(n, member(owner) if owner else None, key) for n, (key, owner) in enumerate(connections)]
    rest, _ = come_to_rest(members, before)
    opens = {one.process: one.takes for one in members}
    for one in rest:
        can_open = {process for process, keys in opens.items() if one.needs <= keys}
        assert one.owner in can_open if can_open else one.owner not in opens


def test_who_takes_nothing_any_more_has_no_share() -> None:
    leaving, heir = Member(UUID(int=1), frozenset()), member(2)
    connections = [owned(0, None), *(owned(number, leaving) for number in range(1, 4)), owned(4, heir)]
    assert plan(heir, [leaving, heir], connections, ()).take == (connections[0],)


def test_what_is_given_back_already_is_not_given_back_twice() -> None:
    me, other = member(1), member(2)
    connections = [owned(number, me) for number in range(10)]
    leaving = plan(me, [me, other], connections, ()).give_back
    assert len(leaving) == 5
    assert plan(me, [me, other], connections, (), leaving).give_back == ()
