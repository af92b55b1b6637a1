"""What the processes of a token have written down of their calls, as one of them sees it: a pure decision.

Nobody's clock is compared with another's that may differ. What was written counts from when this process first saw
it, less what is known of its age then, which is later than when it was written: so nothing is free here before it is
free at the API.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from uuid import UUID

from sync.mews.ledger import CLOCK_TOLERANCE, Others

WAITS_FOR_S = 5.0
"""Who gets nothing asks again every second: one that no longer does waits no longer."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one process has written down.

    `beat` differs each time that it does; `reserved` calls may be under way or begin, as long as it is good for; the
    others had ended `ages_s` before. When it has stood still for `counts_for_s`, nothing of what is reserved counts;
    nor after `silent_for_s` without a new sign of `life`, where its process spends nothing without that. It was written
    at least `age_s` ago.
    """

    process: UUID
    beat: int
    reserved: int
    ages_s: tuple[float, ...]
    is_waiting: bool
    counts_for_s: float
    life: int | None = None
    silent_for_s: float | None = None
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """When what stood in a reservation was written, at the latest, and when its process's last sign of life was."""

    beat: int
    written_s: float
    life: int | None
    alive_s: float


NONE_SEEN: Mapping[UUID, _Seen] = MappingProxyType({})
"""There once: of thousands of tokens no other process has written anything down."""


class ReservationWatch:
    """The reservations of other processes. `good_for_s`: as long as one may be spent; `window_s`: as the API counts."""

    __slots__ = ("_good_for_s", "_last_seen", "_window_s")

    def __init__(self, window_s: float, good_for_s: float) -> None:
        self._window_s = window_s
        self._good_for_s = good_for_s
        self._last_seen: Mapping[UUID, _Seen] = NONE_SEEN

    def look(self, reservations: Iterable[Reservation], now_s: float) -> tuple[Others, list[UUID]]:
        """What others have taken, and the processes of which nothing counts any more; `now_s` by a forward clock."""
        seen_before, last_seen = self._last_seen, dict[UUID, _Seen]()
        taken, alive, waiting, over = 0, 0, 0, list[UUID]()
        ends: list[float] = []
        for one in reservations:
            seen = last_seen[one.process] = _see(one, seen_before.get(one.process), now_s)
            seen_s = seen.written_s
            counted = [(until_s, calls) for until_s, calls in self._counted_until(one, seen) if until_s > now_s]
            taken += sum(calls for _, calls in counted)
            ends += [until_s for until_s, calls in counted if calls]
            is_alive = bool(one.reserved or one.is_waiting) and now_s < seen_s + self._good_for_s * CLOCK_TOLERANCE
            alive += is_alive
            waiting += one.is_waiting and now_s < seen_s + WAITS_FOR_S
            if not is_alive and not any(calls for _, calls in counted):
                over.append(one.process)
        self._last_seen = last_seen or NONE_SEEN
        return Others(taken, alive, waiting, min(ends, default=math.inf) - now_s), over

    def _counted_until(self, one: Reservation, seen: _Seen) -> Iterator[tuple[float, int]]:
        """Until when how many calls count."""
        until_s = seen.written_s + one.counts_for_s * CLOCK_TOLERANCE
        if one.silent_for_s is not None:
            until_s = min(until_s, seen.alive_s + one.silent_for_s * CLOCK_TOLERANCE)
        yield until_s, one.reserved
        for age_s in one.ages_s:
            yield seen.written_s + self._window_s * CLOCK_TOLERANCE - age_s, 1


def _see(one: Reservation, before: _Seen | None, now_s: float) -> _Seen:
    """To see that it was written is to see a sign of life too: of what it gave between nothing is known."""
    if before is None or before.beat != one.beat:
        return _Seen(one.beat, now_s - one.age_s, one.life, now_s)
    return _Seen(one.beat, before.written_s, one.life, before.alive_s if before.life == one.life else now_s)
