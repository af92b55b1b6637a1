"""What a timetable keeps does not grow with how often something is tried, and what rests is not taken for stuck."""

import gc
from random import Random

import pytest

from sync.service.progress import stands_still_after_s
from sync.service.timetable import LEAST_ROOM, Kind, Timetable
from sync.service.triggers import LOOK_S

A_DAY_S = 86_400.0


def kept(thing: object) -> int:
    """How many times are kept for it."""
    return sum(type(one) is tuple for one in gc.get_referrers(thing))


async def nothing(_: object) -> None:
    pass


async def test_what_fails_for_hours_and_is_tried_every_second_leaves_no_time_behind_for_each_try() -> None:
    now_s = 0.0
    timetable = Timetable(Random(1), lambda: None, lambda: now_s)
    failing = timetable.enter(Kind(A_DAY_S, nothing), "failing")
    resting = timetable.enter(Kind(A_DAY_S, nothing), "resting")
    for _ in range(20 * LEAST_ROOM):
        await timetable.tick()
        timetable.hasten(failing, 1.0)
        now_s += 1.0
    assert kept(failing) <= LEAST_ROOM
    assert (kept(resting), timetable.wait_s()) == (1, 0.0)
    now_s = resting.due_s
    assert failing.due_s < resting.due_s
    await timetable.tick()
    assert resting.due_s > now_s, "it was due, and is due again after a day"


@pytest.mark.parametrize("push_poll_s", [0.001, 0.1, 5.0, A_DAY_S])
async def test_a_process_with_nothing_to_do_does_not_count_as_stuck_however_often_outboxes_are_polled(
    push_poll_s: float,
) -> None:
    """It fires once in `LOOK_S` only: a spare replica, of which systemd's watchdog hears."""
    now_s = 0.0
    timetable = Timetable(Random(1), lambda: None, lambda: now_s)
    await timetable.tick()
    now_s = 2 * LOOK_S
    assert timetable.is_moving(stands_still_after_s(push_poll_s))
    now_s = max(3 * push_poll_s, 10 * LOOK_S) + 1
    assert not timetable.is_moving(stands_still_after_s(push_poll_s))
