"""Waiting for a place under a cap, beside a place of the budget that is not good for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol


class Turn(Protocol):
    """One call's turn for a place under a cap."""

    def ask(self) -> "asyncio.Future[None]":
        """A place, once the future is done."""

    def step_aside(self) -> None:
        """Want none for now, whether it was given meanwhile or not, and keep the turn."""

    def end(self, *, is_used: bool = False) -> None:
        """Want none any more; `is_used`: there was a request in it."""


async def comes_in_time(
    awaited: "asyncio.Future[None]",
    within_s: float,
    *,
    clock: Callable[[], float],
    pause: Callable[[float], Awaitable[None]],
) -> bool:
    """Whether it is done before so many seconds have passed by `clock`, whatever the loop saw of them.

    Raises what `pause` does, where nothing is to be waited for any more.
    """
    if awaited.done():
        return True
    pausing, began_s = asyncio.ensure_future(pause(within_s)), clock()
    pausing.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # one that nobody waits for
    try:
        await asyncio.wait([awaited, pausing], return_when=asyncio.FIRST_COMPLETED)
        if pausing.done():
            pausing.result()
    finally:
        pausing.cancel()
    return awaited.done() and clock() - began_s < within_s  # else the process stood still meanwhile
