"""Who works for which connection: each replica decides for itself, by what all see. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from uuid import UUID

ENVIRONMENT, STORED = "environment", "stored"
"""Whose tokens a replica has: its environment's own, and the database's, to which it has a key."""
Needs = frozenset[str]
"""What a replica must have to work for a connection: tokens of the environment, or the keys to stored ones."""


@dataclass(frozen=True, slots=True)
class Member:
    """A replica that is alive, and what it has of what connections need."""

    process: UUID
    takes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Owned:
    """A connection that is at work, and who had it at the last look; `version` differs when its tokens do."""

    name: str
    needs: Needs
    owner: UUID | None
    epoch: int
    version: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replica does next: names that it gives back, and those that it takes as they stand."""

    give_back: tuple[str, ...] = ()
    take: tuple[Owned, ...] = ()


def plan(
    me: Member,
    members: Collection[Member],
    connections: Sequence[Owned],
    free_owners: Collection[UUID],
    leaving: Collection[str] = (),
    *,
    refused: Collection[str] = (),
) -> Plan:
    """What `me` does; `members` are all that are alive, with it, and `free_owners` those that are taken for dead.

    Where it stands there with less than it has, as it was taken for dead, it keeps what it owns and takes only what no
    other could.

    `leaving`: what it gives back already; `refused`: what the database did not let it have before, which is taken last:
    it would stand in the place of another one. It gives back what it cannot open. Of the rest, what is beyond its share
    moves at most, and only to who has less.
    """
    plans, elsewhere = [Plan(give_back=_unopened(me, connections, leaving))], Counter[UUID | None]()
    for takers, group in _groups(me, connections, members):
        mine = Plan()
        if me.process in takers:
            counts = {process: elsewhere[process] for process in takers}
            mine = _plan_group(me, counts, group, free_owners, leaving, refused=refused)
        plans.append(mine)
        elsewhere.update(one.owner for one in group)
        elsewhere[me.process] += len(mine.take) - len(mine.give_back)
    return Plan(
        tuple(name for one in plans for name in one.give_back), tuple(owned for one in plans for owned in one.take)
    )


def _unopened(me: Member, connections: Sequence[Owned], leaving: Collection[str]) -> tuple[str, ...]:
    mine = (one for one in connections if one.owner == me.process and one.name not in leaving)
    return tuple(one.name for one in mine if not one.needs <= me.takes)


def _groups(
    me: Member, connections: Sequence[Owned], members: Collection[Member]
) -> list[tuple[frozenset[UUID], list[Owned]]]:
    """The connections by who can work for them, those first for which the fewest can: others make room for them."""
    takers = {
        needs: frozenset(one.process for one in members if needs <= one.takes)
        or frozenset({me.process} if needs <= me.takes else ())
        for needs in {one.needs for one in connections}
    }
    groups: dict[frozenset[UUID], list[Owned]] = {}
    for one in connections:
        groups.setdefault(takers[one.needs], []).append(one)
    return sorted(groups.items(), key=lambda group: (len(group[0]), sorted(group[0])))


def fair_level(connections: int, elsewhere: Collection[int]) -> int:
    """How many connections each replica has at most once so many more are shared by those that have these elsewhere."""
    filled = enumerate(accumulate(sorted(elsewhere)), start=1)
    return min(-(-(connections + had) // replicas) for replicas, had in filled)


def _plan_group(
    me: Member,
    elsewhere: Mapping[UUID, int],
    connections: Sequence[Owned],
    free_owners: Collection[UUID],
    leaving: Collection[str],
    *,
    refused: Collection[str],
) -> Plan:
    """`elsewhere`: who can work for these connections, and for how many others each does."""
    level = fair_level(len(connections), elsewhere.values())
    share = max(0, level - elsewhere[me.process])
    mine = [one for one in connections if one.owner == me.process and one.name not in leaving]
    if len(mine) > share:
        counts = Counter(one.owner for one in connections)
        others = elsewhere.keys() - {me.process}
        room = sum(max(0, level - elsewhere[process] - counts[process]) for process in others)
        moved = min(len(mine) - share, room)
        # In an order that is no replica's: whoever is beyond its share next gives others.
        return Plan(give_back=tuple(one.name for one in sorted(mine, key=lambda one: _order(me, one))[:moved]))
    free = [one for one in connections if one.owner is None or one.owner in free_owners]
    # Each begins elsewhere, so that two that take at once seldom want the same.
    free.sort(key=lambda one: (one.name in refused, _order(me, one)))
    return Plan(take=tuple(free[: share - len(mine)]))


def _order(me: Member, owned: Owned) -> bytes:
    return blake2b(owned.name.encode(), key=me.process.bytes, digest_size=8).digest()
