"""The parts of all replicas together are never more than the whole, whoever joins, dies or comes back meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.fleet.liveness import BEAT_S, DEAD_AFTER_S, TRUSTED_S
from sync.fleet.parts import OF_KNOWN, OF_NEWCOMER, OF_STARTER, FleetPart

WRITTEN_S = 0.3
"""What a beat wrote shows to those that read so long after it began."""


@dataclass
class One:
    """A replica of a simulated fleet: what it has of the whole, and until when it trusts itself."""

    starts_s: float
    ends_s: float
    beats_at: list[float]
    part: float = 0.0
    trusted_until_s: float = 0.0
    rule: FleetPart = field(default_factory=FleetPart)

    def is_seen_at(self, now_s: float) -> bool:
        """Whether another replica that beats now counts it."""
        shown = [at_s + WRITTEN_S for at_s in self.beats_at if at_s < self.ends_s]
        return any(at_s <= now_s < at_s + DEAD_AFTER_S for at_s in shown)

    def part_at(self, now_s: float) -> float:
        """What it may use: nothing once it is dead, or does not trust itself."""
        return self.part if self.starts_s <= now_s < min(self.ends_s, self.trusted_until_s) else 0.0


def replica(starts_s: float, lasts_s: float, late_s: float) -> One:
    """One that beats on time, but for one beat that is late."""
    beats = [starts_s + number * BEAT_S + (late_s if number >= 4 else 0) for number in range(40)]
    return One(starts_s, starts_s + lasts_s, beats)


def most_used(fleet: list[One], is_looked_at: Callable[[float], bool] = lambda now_s: True) -> float:
    """The largest sum of parts at any instant that is looked at."""
    beats = sorted((at_s, number) for number, one in enumerate(fleet) for at_s in one.beats_at if at_s < one.ends_s)
    most = 0.0
    for (at_s, number), (next_s, _) in pairwise([*beats, (1e9, 0)]):
        one = fleet[number]
        members = 1 + sum(other.is_seen_at(at_s) for other in fleet if other is not one)
        one.part = one.rule.after_beat(at_s + WRITTEN_S, members)
        one.trusted_until_s = at_s + TRUSTED_S
        for now_s in (at_s, min(next_s, at_s + BEAT_S)):
            if is_looked_at(now_s):
                most = max(most, sum(other.part_at(now_s) for other in fleet))
    return most


STARTS = st.floats(0, 60)
LATE_S = st.floats(0, TRUSTED_S - BEAT_S - 2 * WRITTEN_S)


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(STARTS, st.floats(1, 80), LATE_S), min_size=1, max_size=4))
def test_four_replicas_whenever_they_come_and_go_never_have_more_than_the_whole(
    lives: list[tuple[float, float, float]],
) -> None:
    assert most_used([replica(*life) for life in lives]) <= 1 + 1e-9


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(STARTS | st.floats(20, 23), st.floats(1, 80)), min_size=5, max_size=12))
def test_of_a_dozen_each_beyond_four_passes_the_whole_by_a_twentieth_and_only_until_the_others_next_beat(
    lives: list[tuple[float, float]],
) -> None:
    fleet = [replica(starts_s, lasts_s, 0.0) for starts_s, lasts_s in lives]
    seen_after_s = 2 * BEAT_S + WRITTEN_S

    def have_joined(now_s: float) -> bool:
        return not any(0 <= now_s - starts_s < seen_after_s for starts_s, _ in lives)

    assert most_used(fleet, have_joined) <= 1 + 1e-9
    fleet = [replica(starts_s, lasts_s, 0.0) for starts_s, lasts_s in lives]
    within_s = [sum(abs(other_s - starts_s) <= DEAD_AFTER_S for other_s, _ in lives) for starts_s, _ in lives]
    assert most_used(fleet) <= OF_KNOWN + max(within_s) * OF_NEWCOMER + 1e-9


def test_ten_that_start_at_once_keep_to_the_cap() -> None:
    assert most_used([replica(number * WRITTEN_S / 10, 80, 0.0) for number in range(10)]) <= 1 + 1e-9


def test_who_is_alone_has_all_but_the_reserve_from_its_second_beat_on() -> None:
    rule = FleetPart()
    assert [rule.after_beat(now_s, 1) for now_s in (0, 2, 4)] == [OF_STARTER, OF_KNOWN, OF_KNOWN]


def test_a_newcomer_has_little_until_all_others_must_have_seen_it() -> None:
    rule = FleetPart()
    parts = [rule.after_beat(now_s, 3) for now_s in (0, 2, DEAD_AFTER_S - 0.1, DEAD_AFTER_S)]
    assert parts == [OF_NEWCOMER] * 3 + [OF_KNOWN / 3]


def test_the_part_of_one_that_died_or_left_goes_to_the_others_with_their_next_beat() -> None:
    rule = FleetPart()
    for now_s in (0, DEAD_AFTER_S):
        rule.after_beat(now_s, 2)
    assert rule.after_beat(DEAD_AFTER_S + BEAT_S, 1) == OF_KNOWN


@pytest.mark.parametrize("was_dead", [True, False])
def test_only_who_was_taken_for_dead_begins_anew(was_dead: bool) -> None:
    """After an outage of the database, which was everybody's, all go on as before it."""
    rule = FleetPart()
    for now_s in (0, DEAD_AFTER_S):
        rule.after_beat(now_s, 2)
    expected = OF_NEWCOMER if was_dead else OF_KNOWN / 2
    assert rule.after_beat(70, 2, was_dead=was_dead) == expected
