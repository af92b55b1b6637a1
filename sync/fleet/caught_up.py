"""What a replica tells of its connections in a few rows: that it was heard, and how far each has caught up.

A hundred connections stand in a row, each at a place of its own, which its row in `sync.connections` names: so what a
beat writes hardly grows with them. A place is another's only once no row names it for the one before.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from heapq import heappush
from itertools import count
from uuid import UUID

from sqlalchemy import Integer, Text, bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.tables import connections
from sync.fleet.tables import caught_up
from sync.mirror.watermarks import CaughtUp

PART = 100
"""Places in a row: of so many it needs no second table, as larger ones do."""


@dataclass(frozen=True, slots=True)
class BookPage:
    """What is written at once: the place of each connection, what stands `at` it, and who is `leaving`."""

    places: Mapping[str, int]
    at: Mapping[int, CaughtUp | None]
    leaving: frozenset[str]


class CaughtUpBook:
    """What one replica, `process`, tells. Whoever writes a page holds `writing` until it is `written`."""

    def __init__(self, process: UUID) -> None:
        self.process = process
        self.writing = asyncio.Lock()
        self._latest: dict[str, CaughtUp | None] = {}
        self._places: dict[str, int] = {}
        self._free: list[int] = []
        self._size = 0
        self._finding: int | None = None

    @property
    def names(self) -> Set[str]:
        """The connections that it tells of."""
        return self._latest.keys()

    def note(self, name: str, reached: CaughtUp | None) -> None:
        """Tell of a connection from now on; `reached`: how far it has caught up, if that is known anew."""
        self._latest[name] = reached or self._latest.get(name)

    def follow(self, finding: int | None) -> None:
        """Tell no more how far any has caught up, until that is known anew, where the database was found anew since.

        Nobody else has read what it has lost: pulls would begin behind it. `finding`: as `Incarnation` has it.
        """
        if finding is None or finding != self._finding:
            self._latest = dict.fromkeys(self._latest)
        self._finding = finding

    def page(self, leaving: Collection[str] = ()) -> BookPage:
        """What is to be written; `leaving` are told of for the last time, by their own rows."""
        free = _each_then(sorted(self._free), self._size)
        new = {name: next(free) for name in self._latest if name not in self._places and name not in leaving}
        places = self._places | new
        at = {place: self._latest[name] for name, place in places.items()}
        return BookPage(places, at, frozenset(leaving) & self._places.keys())

    def written(self, page: BookPage) -> None:
        """Take a page that is committed for what the database has."""
        self._places = dict(page.places)
        self._size = max([self._size, *(place + 1 for place in page.at)])
        self._free = [place for place in self._free if place not in page.at]
        for name in page.leaving:
            heappush(self._free, self._places.pop(name))
            self._latest.pop(name, None)

    def forget(self, names: Collection[str]) -> None:
        """Tell no more of connections that never had a place."""
        for name in set(names) - self._places.keys():
            self._latest.pop(name, None)


async def write(tx: AsyncConnection, process: UUID, page: BookPage) -> None:
    """Write a page: each part as a whole, and then the rows of connections that are no longer in it."""
    await tx.execute(_PLACE, {"me": process, "names": list(page.places), "places": list(page.places.values())})
    if parts := list(_parts(page.at)):
        new = insert(caught_up).values([{"process": process, "noted_at": func.now(), **part} for part in parts])
        changes = {name: new.excluded[name] for name in ("noted_at", "as_of", "through")}
        await tx.execute(new.on_conflict_do_update(index_elements=[*caught_up.primary_key], set_=changes))
    if page.leaving:
        await tx.execute(_LEAVE, {"me": process, "names": list(page.leaving)})


async def forget_ended(tx: AsyncConnection) -> None:
    """Forget what replicas have told that own nothing any more."""
    owned = select(connections.c.owner).where(connections.c.owner == caught_up.c.process)
    await tx.execute(delete(caught_up).where(~owned.exists()))


def _each_then(free: list[int], beyond: int) -> Iterator[int]:
    yield from free
    yield from count(beyond)


def _parts(at: Mapping[int, CaughtUp | None]) -> Iterator[dict[str, object]]:
    for part in sorted({place // PART for place in at}):
        told = [at.get(place) for place in range(part * PART, (part + 1) * PART)]
        yield {
            "part": part,
            "as_of": [one and one.as_of for one in told],
            "through": [one and one.through for one in told],
        }


# Of rows that name their place already none is written. Others do not where the connection was taken anew, or where a
# commit went through of which nobody here was told.
_PLACE = text("""
UPDATE sync.connections AS known SET place = given.place
FROM sync.connections AS one
LEFT JOIN unnest(CAST(:names AS text[]), CAST(:places AS integer[])) AS given(name, place) ON given.name = one.name
WHERE known.name = one.name AND known.owner = :me AND one.place IS DISTINCT FROM given.place
""").bindparams(
    bindparam("names", type_=ARRAY(Text)),
    bindparam("places", type_=ARRAY(Integer)),
    bindparam("me", type_=UUID_TYPE),
)

_LEAVE = text("""
UPDATE sync.connections AS known
SET place = NULL, heartbeat_at = told.heartbeat_at, caught_up_as_of = told.caught_up_as_of,
    caught_up_through = told.caught_up_through
FROM sync.connection_freshness AS told
WHERE told.name = known.name AND known.owner = :me AND known.name = ANY(CAST(:names AS text[]))
""").bindparams(bindparam("names", type_=ARRAY(Text)), bindparam("me", type_=UUID_TYPE))
