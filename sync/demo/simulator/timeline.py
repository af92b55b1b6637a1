"""The codes as readers find them: per voucher in the order of pages, so that a page costs what it shows."""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from uuid import UUID

from sync.demo.simulator.entities import Code
from sync.demo.simulator.instants import position

_SORT_FROM = 64
"""From so many new codes of a voucher on, sorting the end of its list is cheaper than inserting them one by one."""


class Timeline:
    """Codes, found by id or read from the newest to the oldest."""

    def __init__(self) -> None:
        self._positions: dict[UUID, list[int]] = {}
        self._position_of: dict[UUID, int] = {}
        self._code_at: dict[int, Code] = {}

    def get(self, code_id: UUID) -> Code | None:
        """The code as readers find it, if they find it."""
        place = self._position_of.get(code_id)
        return None if place is None else self._code_at[place]

    def of_voucher(self, voucher_id: UUID) -> Sequence[Code]:
        """All codes of a voucher, the oldest first."""
        return [self._code_at[place] for place in self._positions.get(voucher_id, ())]

    def holders(self, values: Iterable[str], *, any_case: bool, usable_at: datetime | None) -> set[UUID]:
        """The vouchers that have a code of one of these values: one that may be used at that instant; None: any."""
        same = str.casefold if any_case else str
        wanted = {same(value) for value in values}
        found = [one for one in self._code_at.values() if one.value is not None and same(one.value) in wanted]
        return {one.voucher_id for one in found if usable_at is None or one.is_usable(usable_at)}

    def put(self, codes: Iterable[Code]) -> None:
        """Adds codes, or moves those that are there to where their new version stands."""
        new: dict[UUID, list[int]] = {}
        # The last version of a code wins: two places of one code would leave the first readable for ever.
        for code in {code.id: code for code in codes}.values():
            if code.id in self._position_of:
                self.remove(code.id)
            place = position(code.updated_utc, code.id)
            self._position_of[code.id] = place
            self._code_at[place] = code
            new.setdefault(code.voucher_id, []).append(place)
        for voucher_id, places in new.items():
            self._merge(self._positions.setdefault(voucher_id, []), places)

    def remove(self, code_id: UUID) -> None:
        """Takes a code away, if it is there."""
        place = self._position_of.pop(code_id, None)
        if place is None:
            return
        places = self._positions[self._code_at.pop(place).voucher_id]
        del places[bisect_left(places, place)]

    def newest(self, voucher_ids: Iterable[UUID], *, low: int, high: int, count: int) -> list[Code]:
        """The `count` newest codes of the vouchers at positions from `low` (included) to `high` (excluded).

        A merge of sorted runs over plain integers. `heapq.merge` keeps a list for each run: with a thousand vouchers
        and 200,000 codes those set off full garbage collections of 0.1 s in the middle of a page.
        """
        runs: dict[int, Iterator[int]] = {}
        for voucher_id in voucher_ids:
            places = self._positions.get(voucher_id, [])
            first, behind = bisect_left(places, low), bisect_left(places, high)
            if first < behind:
                runs[places[behind - 1]] = map(places.__getitem__, range(behind - 2, first - 1, -1))
        heads = [-head for head in runs]
        heapq.heapify(heads)
        page: list[Code] = []
        while heads and len(page) < count:
            place = -heads[0]
            page.append(self._code_at[place])
            run = runs.pop(place)
            following = next(run, None)
            if following is None:
                heapq.heappop(heads)
            else:
                runs[following] = run
                heapq.heapreplace(heads, -following)
        return page

    @staticmethod
    def _merge(places: list[int], new: list[int]) -> None:
        if len(new) >= _SORT_FROM:
            first = bisect_left(places, min(new))  # what stands before may be a million
            places[first:] = sorted(places[first:] + new)
        else:
            for place in new:
                insort(places, place)
