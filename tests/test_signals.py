"""Events and locks that take no room at rest go on as asyncio's do."""

import asyncio

import pytest

from sync.signals import Signal, Turn


async def begun(*waiting: "asyncio.Task[object]") -> None:
    """Let all of these come to where they wait."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)


async def test_a_signal_lets_all_go_on_that_wait_and_whoever_comes_later() -> None:
    signal = Signal()
    waiting = [asyncio.create_task(signal.wait()) for _ in range(3)]
    await begun(*waiting)
    signal.set()
    signal.clear()  # before any of them has its turn
    await asyncio.gather(*waiting)
    assert not signal.is_set()
    late = asyncio.create_task(signal.wait())
    await begun(late)
    signal.set()
    await late
    await signal.wait()
    assert signal.is_set()


async def test_who_gives_up_waiting_for_a_signal_keeps_nobody_back() -> None:
    signal = Signal()
    gives_up, stays = (asyncio.create_task(signal.wait()) for _ in range(2))
    await begun(gives_up, stays)
    gives_up.cancel()
    signal.set()
    await stays
    with pytest.raises(asyncio.CancelledError):
        await gives_up


async def test_a_turn_is_one_s_at_a_time_in_the_order_of_asking() -> None:
    turn, order = Turn(), list[int]()

    async def have(number: int) -> None:
        async with turn:
            order.append(number)
            await asyncio.sleep(0)
            order.append(number)

    assert not turn.locked()
    async with turn:
        waiting = [asyncio.create_task(have(number)) for number in range(3)]
        await begun(*waiting)
        assert turn.locked()
    await asyncio.gather(*waiting)
    assert order == [0, 0, 1, 1, 2, 2]
    assert not turn.locked()


async def test_a_turn_goes_on_behind_one_who_gives_up_and_behind_one_who_fails() -> None:
    turn = Turn()

    async def fail() -> None:
        async with turn:
            raise ZeroDivisionError

    async with turn:
        gives_up, fails = asyncio.create_task(turn.__aenter__()), asyncio.create_task(fail())
        await begun(gives_up, fails)
        gives_up.cancel()
    with pytest.raises(ZeroDivisionError):
        await fails
    async with turn:
        assert turn.locked()
