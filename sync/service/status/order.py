"""Which connections come first where there are many; pure."""

import math
from collections.abc import Iterable, Mapping

from sync.service.status.facts import ConnectionStatus
from sync.service.status.verdict import Verdict

SLOWEST = 10


def by_urgency(connections: Iterable[ConnectionStatus], verdicts: Mapping[str, Verdict]) -> list[ConnectionStatus]:
    """All of them, the most urgent first, and of those that are alike the furthest behind."""
    return sorted(connections, key=lambda one: (-verdicts[one.name].level, -_late_s(one), one.name))


def furthest_behind(connections: Iterable[ConnectionStatus]) -> list[ConnectionStatus]:
    """The slowest of those that are at work."""
    at_work = (one for one in connections if one.paused_at is None)
    return sorted(at_work, key=lambda one: (-_late_s(one), one.name))[:SLOWEST]


def _late_s(one: ConnectionStatus) -> float:
    """Who has never caught up is further behind than all who have."""
    return math.inf if one.caught_up_age_s is None else one.caught_up_age_s
