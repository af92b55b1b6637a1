"""Connections whose calls hang leave places under a cap to all others, however many they are."""

import asyncio
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from sync.mews import platform_cap
from sync.mews.platform_cap import CappedCaller, CapTurn, PlatformCap
from sync.mews.rate_limiter import Priority
from tests.mews.helpers import turns
from tests.mews.test_platform_cap import HOURS_S, Connection, all_of, cap_of
from tests.outages.virtual_clock import run_in_virtual_time


def test_connections_whose_calls_hang_leave_room_for_every_other() -> None:
    async def main() -> None:
        cap = cap_of(40, 1_000_000)
        hanging = [Connection(cap) for _ in range(6)]
        calls = [asyncio.create_task(one.call(HOURS_S)) for one in hanging for _ in range(100)]
        await turns(1000)
        loop = asyncio.get_running_loop()
        began_s, others = loop.time(), [Connection(cap) for _ in range(20)]
        async with asyncio.timeout(60):  # of the virtual time, in which they would wait for hours
            for one in others:
                await one.call(0.1)
        assert loop.time() - began_s == pytest.approx(2.0, abs=0.2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (cap.in_flight, cap.waiting) == (0, 0)

    run_in_virtual_time(main())


@pytest.mark.sampled
@pytest.mark.parametrize("hanging", [10, 30])
@pytest.mark.parametrize(("in_flight", "per_s", "within_s"), [(20, 1_000_000, 1), (1000, 20, 8)])
def test_connections_whose_calls_hang_have_a_half_of_the_places_however_many_they_are(
    hanging: int, in_flight: int, per_s: int, within_s: float
) -> None:
    async def main() -> None:
        cap, loop = cap_of(in_flight, per_s), asyncio.get_running_loop()
        many = [Connection(cap) for _ in range(hanging)]

        async def hang(one: Connection) -> None:
            while True:
                await one.call(20.0)

        calls = [asyncio.create_task(hang(one)) for one in many for _ in range(3)]
        await asyncio.sleep(60)
        others = [Connection(cap) for _ in range(30)]
        for _ in range(6):
            began_s = loop.time()
            await all_of(*(one.call(0.1) for one in others))
            assert loop.time() - began_s < within_s
            await asyncio.sleep(7)
        await asyncio.sleep(300)
        assert all(len(one.arrivals) > 1 for one in many), "and each of them goes on"
        assert cap.in_flight <= 10
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    run_in_virtual_time(main())


def test_who_was_answered_in_time_again_hangs_no_more() -> None:
    async def main() -> None:
        cap = cap_of(20, 1_000_000)
        one = Connection(cap)
        await one.call(10.0)
        assert one.caller.hangs
        await asyncio.sleep(100)
        hanging = asyncio.create_task(one.call(10.0))
        await asyncio.sleep(5)
        await one.call(0.1)
        assert one.caller.hangs, "another one of its calls has no answer yet"
        await hanging
        await one.call(0.1)
        assert not one.caller.hangs

    run_in_virtual_time(main())


def test_even_of_a_single_place_those_that_hang_have_their_turn() -> None:
    async def main() -> None:
        cap = cap_of(1, 1_000_000)
        one = Connection(cap)
        for _ in range(3):
            await one.call(10.0)
        assert len(one.arrivals) == 3

    run_in_virtual_time(main())


def test_who_begins_anew_after_it_stepped_aside_hangs_no_longer_than_its_call() -> None:
    async def main() -> None:
        cap = cap_of(20, 1_000_000)
        caller = CappedCaller(cap)
        turn = caller.turn(Priority.PULL)
        await turn.ask()
        turn.step_aside()
        await asyncio.sleep(1)
        await turn.ask()
        await asyncio.sleep(60)
        assert cap.may_have_one(caller)
        assert caller.hangs
        turn.end(is_used=True)
        assert caller.hanging == 0
        turn = caller.turn(Priority.PULL)
        await turn.ask()
        turn.end(is_used=True)
        assert not caller.hangs

    run_in_virtual_time(main())


def functions_called(work: Callable[[], object]) -> int:
    """How many functions of the cap's are called for it."""
    count = 0

    def note(frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call" and frame.f_globals["__name__"] == platform_cap.__name__

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def pulls(cap: PlatformCap, count: int) -> list[CapTurn]:
    """Turns of so many connections."""
    return [CappedCaller(cap).turn(Priority.PULL) for _ in range(count)]


def test_who_asks_where_nothing_is_free_has_nobody_else_looked_at() -> None:
    async def main() -> None:
        cap = cap_of(1, 1_000_000)
        places = [turn.ask() for turn in pulls(cap, 10)]
        assert sum(place.done() for place in places) == 1
        few, many = pulls(cap, 2)
        with_few = functions_called(few.ask)
        places += [turn.ask() for turn in pulls(cap, 100)]
        assert functions_called(many.ask) == with_few

    run_in_virtual_time(main())


def test_those_that_hang_and_wait_are_not_looked_at_for_each_call_of_another() -> None:
    async def main(hanging: int) -> int:
        cap = cap_of(10, 1_000_000)
        before = pulls(cap, hanging)
        for turn in before:
            await turn.ask()
            await asyncio.sleep(10)
            turn.end(is_used=True)
        places = [turn.caller.turn(Priority.PULL).ask() for turn in before]
        assert sum(place.done() for place in places) == 5
        (another,) = pulls(cap, 1)
        called = functions_called(another.ask) + functions_called(lambda: another.end(is_used=True))
        assert sum(place.done() for place in places) == 5
        return called

    few, many = (run_in_virtual_time(main(hanging)) for hanging in (10, 100))
    assert many == few
