"""Who works for which connection: each replica decides for itself, by what all see. Pure."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from uuid import UUID

ENVIRONMENT, STORED = "environment", "stored"
"""Whose tokens a replica has: its environment's own, and the database's, which it has the key to."""


@dataclass(frozen=True, slots=True)
class Member:
    """A replica that is alive, and whose tokens it has."""

    process: UUID
    takes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Owned:
    """A connection that is at work, and who had it at the last look; `version` differs when its tokens do."""

    name: str
    kind: str
    owner: UUID | None
    epoch: int
    version: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a replica does next: names that it gives back, and those that it takes as they stand."""

    give_back: tuple[str, ...] = ()
    take: tuple[Owned, ...] = ()


def fair_share(connections: int, replicas: int) -> int:
    """How many connections one of so many replicas has at most."""
    return -(-connections // max(1, replicas))


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

    `leaving`: what it gives back already; `refused`: what the database did not let it have before, which is taken last:
    it would stand in the place of another one. At most what is beyond its share moves, and only to who has less.
    """
    sharing = [one for one in members if one.takes]  # who is leaving takes nothing
    kinds = {one.kind for one in connections}
    # Where each can take all, they are shared out together: of two connections of two kinds, one would have both.
    groups = [kinds] if all(kinds <= one.takes for one in sharing) else [{kind} for kind in sorted(kinds)]
    plans = [
        _plan_group(
            me,
            [one for one in sharing if group <= one.takes],
            [one for one in connections if one.kind in group],
            free_owners,
            leaving,
            refused=refused,
        )
        for group in groups
        if group and group <= me.takes
    ]
    return Plan(
        tuple(name for one in plans for name in one.give_back), tuple(owned for one in plans for owned in one.take)
    )


def _plan_group(
    me: Member,
    members: Sequence[Member],
    connections: Sequence[Owned],
    free_owners: Collection[UUID],
    leaving: Collection[str],
    *,
    refused: Collection[str],
) -> Plan:
    share = fair_share(len(connections), len(members))
    mine = [one for one in connections if one.owner == me.process and one.name not in leaving]
    if len(mine) > share:
        counts = Counter(one.owner for one in connections)
        room = sum(max(0, share - counts[one.process]) for one in members if one.process != me.process)
        moved = min(len(mine) - share, room)
        # In an order that is no replica's: whoever is beyond its share next gives others.
        return Plan(give_back=tuple(one.name for one in sorted(mine, key=lambda one: _order(me, one))[:moved]))
    free = [one for one in connections if one.owner is None or one.owner in free_owners]
    # Each begins elsewhere, so that two that take at once seldom want the same.
    free.sort(key=lambda one: (one.name in refused, _order(me, one)))
    return Plan(take=tuple(free[: share - len(mine)]))


def _order(me: Member, owned: Owned) -> bytes:
    return blake2b(owned.name.encode(), key=me.process.bytes, digest_size=8).digest()
