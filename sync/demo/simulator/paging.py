"""One page of records: newest first by (UpdatedUtc, Id), within a window, older than a cursor."""

from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

from sync.demo.simulator.answers import Refused
from sync.demo.simulator.entities import Dated
from sync.demo.simulator.instants import NEWEST, position, positions_between
from sync.demo.simulator.requests import Listing

Record = TypeVar("Record", bound=Dated)


def bounds(request: Listing, find: Callable[[UUID], Dated | None]) -> tuple[int, int]:
    """The positions, first included and last excluded, of what is left to show.

    A cursor stands for its record where it stands *now*: one that was updated after its page was read makes the
    pages start over from there, as it does in the real API. `find` knows the records that a cursor may name.
    """
    low, high = 0, NEWEST
    if request.updated_utc is not None:
        low, high = positions_between(request.updated_utc.start_utc, request.updated_utc.end_utc)
    if (cursor := request.limitation.cursor) is not None:
        last = find(cursor)
        if last is None:
            raise Refused(400, "Invalid Cursor")
        high = min(high, position(last.updated_utc, last.id))
    return low, high


def newest(records: Iterable[Record], low: int, high: int, count: int) -> list[Record]:
    """The `count` newest of a few records at positions from `low` (included) to `high` (excluded)."""
    placed = {position(record.updated_utc, record.id): record for record in records}
    places = sorted((place for place in placed if low <= place < high), reverse=True)
    return [placed[place] for place in places[:count]]
