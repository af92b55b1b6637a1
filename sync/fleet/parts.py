"""Which part of what the fleet may ask of the platform is this replica's, so that all parts together are no more. Pure.

A replica learns of a newcomer with its next beat, and until then has what it had. So a fifth of the whole is kept for
newcomers: each has a twentieth, until every other replica has beaten since, or trusts itself no longer. Four may join
at once, whether or not they see each other. Each one more passes the whole by a twentieth until the others' next beat.
"""

from sync.fleet.liveness import DEAD_AFTER_S

OF_KNOWN = 0.8
OF_NEWCOMER = 0.05
OF_STARTER = 0.1
"""Of one that sees nobody else, until its second beat: ten may start at once, before any has shown that it lives."""


class FleetPart:
    """The part of one replica, by its own beats; `now_s` is a clock that only goes forward."""

    def __init__(self) -> None:
        self._joined_s: float | None = None
        self._is_alone = False

    def after_beat(self, now_s: float, members: int, *, was_dead: bool = False) -> float:
        """The part behind a beat that ended now and saw so many replicas alive, this one among them.

        `was_dead`: others have taken it for dead since the beat before, and its part with it.
        """
        is_first = self._joined_s is None or was_dead
        if self._joined_s is None or was_dead:
            self._joined_s, self._is_alone = now_s, members == 1
        if self._is_alone:
            return OF_STARTER if is_first else OF_KNOWN / members
        return OF_KNOWN / members if now_s - self._joined_s >= DEAD_AFTER_S else OF_NEWCOMER
