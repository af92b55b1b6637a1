"""Events and a lock of which a process keeps several for each of its connections."""

import asyncio
from collections.abc import Callable


class Signal(asyncio.Event):
    """As its base, which has room for 64 who wait from the beginning: 700 bytes that are never used, of each."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters = []  # type: ignore[assignment]  # of a deque it needs only what a list has too


class Wake:
    """Set by whoever finds that there is something to do; `on_set` is called then, and nobody waits for it.

    A task that waited would take kilobytes of each connection.
    """

    __slots__ = ("_is_set", "_on_set")

    def __init__(self, on_set: Callable[[], None] = lambda: None) -> None:
        self._is_set = False
        self._on_set = on_set

    def set(self) -> None:
        """There is something to do."""
        self._is_set = True
        self._on_set()

    def clear(self) -> None:
        """It is about to be done."""
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it was set since it was cleared."""
        return self._is_set


class Turn(asyncio.Lock):
    """As its base, which keeps as much for ever once somebody has waited for it: at the start of a connection."""

    def release(self) -> None:
        """Let the next one have it."""
        super().release()
        if not self._waiters:
            self._waiters = None
