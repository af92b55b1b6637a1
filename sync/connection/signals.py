"""An event and a lock of which a process keeps several for each of its connections."""

import asyncio


class Signal(asyncio.Event):
    """As its base, which has room for 64 who wait from the beginning: 700 bytes that are never used, of each."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters = []  # type: ignore[assignment]  # of a deque it needs only what a list has too


class Turn(asyncio.Lock):
    """As its base, which keeps as much for ever once somebody has waited for it: at the start of a connection."""

    def release(self) -> None:
        """Let the next one have it."""
        super().release()
        if not self._waiters:
            self._waiters = None
