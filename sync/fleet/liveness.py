"""Which replicas are dead, by the clock of whoever watches them: from when it saw the last sign of life. Pure."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

BEAT_S = 2.0
"""How often a replica shows that it lives."""
DEAD_AFTER_S = 10.0
"""So long without another beat, a replica is taken for dead."""
TRUSTED_S = DEAD_AFTER_S - 1.0
"""So long from before its last beat, a replica takes itself for alive; what is between is the others' lead."""
MISSED_S = 1.5 * BEAT_S
"""So long without another beat, one whose lock is free is taken for dead: it ends with the process."""
BLIND_S = 3 * BEAT_S
"""Who has seen nothing for so long has missed the others' beats, and begins to count anew."""
LATE_S = DEAD_AFTER_S / 2
"""So long after the one before, a beat is not steady."""
OWED_AT_MOST_S = 60.0
"""So long at most, who was taken for dead must beat steadily before it takes anything."""


@dataclass(slots=True)
class _Sign:
    beat: int | None
    seen_s: float


class ReplicaWatch:
    """What was seen of the other replicas' beats; `now_s` is a clock that only goes forward."""

    def __init__(self) -> None:
        self._signs: dict[UUID, _Sign] = {}
        self._looked_s: float | None = None
        self._locks_tell_from_s = -math.inf

    def note_lock(self, *, is_held: bool, now_s: float) -> None:
        """Take that this process got its own lock, or has lost it: all locks end with the server, which may be back
        sooner than whoever lives has its lock again, or has shown another beat.
        """
        self._locks_tell_from_s = now_s + MISSED_S if is_held else math.inf

    def observe(self, beats: Mapping[UUID, int | None], now_s: float) -> None:
        """Take what all beats are now; None of a process that owns something and is not there."""
        is_blind = self._looked_s is not None and now_s - self._looked_s > BLIND_S
        self._looked_s = now_s
        before = {} if is_blind else self._signs
        self._signs = {
            process: sign if (sign := before.get(process)) is not None and sign.beat == beat else _Sign(beat, now_s)
            for process, beat in beats.items()
        }

    def silent(self, for_s: float, now_s: float) -> set[UUID]:
        """Those of whom nothing new was seen for so long."""
        return {process for process, sign in self._signs.items() if now_s - sign.seen_s >= for_s}

    def missed_in_s(self, now_s: float) -> float:
        """After how many seconds the first of those that showed nothing new at this look will have missed a beat."""
        waits_s = (sign.seen_s + MISSED_S - now_s for sign in self._signs.values() if sign.seen_s < now_s)
        return min((one for one in waits_s if one > 0), default=math.inf)

    def dead(self, now_s: float, unlocked: Collection[UUID], gone: Collection[UUID]) -> set[UUID]:
        """Those that are taken for dead. `unlocked` had a lock that is free now, and `gone` of these ran on this
        machine and do so no more.
        """
        without_lock = set(unlocked) if now_s >= self._locks_tell_from_s else set[UUID]()
        return self.silent(DEAD_AFTER_S, now_s) | (self.silent(MISSED_S, now_s) & without_lock) | set(gone)


@dataclass(frozen=True, slots=True)
class Steadiness:
    """How a replica's own beats have come, by its own clock.

    Who was taken for dead takes nothing before it has beaten steadily for as long as it was away: whoever is starved
    of processor time would be given its share at each beat, and lose it again.
    """

    beat_s: float = 0.0
    since_s: float = 0.0
    owed_s: float = 0.0

    def after(self, now_s: float, *, was_dead: bool) -> "Steadiness":
        """Behind a beat; `was_dead`: others have taken it for dead since the one before."""
        away_s = now_s - self.beat_s
        if was_dead:
            return Steadiness(now_s, now_s, min(max(away_s, self.owed_s), OWED_AT_MOST_S))
        since_s = now_s if away_s >= LATE_S else self.since_s
        return Steadiness(now_s, since_s, self.owed_s if now_s - since_s < self.owed_s else 0.0)

    def is_owed(self) -> bool:
        """Whether it must beat on before it takes anything."""
        return self.owed_s > 0
