"""Events and locks of which a process keeps several for each of its thousands of connections.

At rest each takes 50 bytes. One of asyncio's takes 100, and from when somebody has waited for it 700 more.
"""

import asyncio
from collections.abc import Callable


class Signal:
    """An `asyncio.Event` to whoever sets it or waits for it."""

    __slots__ = ("_is_set", "_waiting")

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: tuple[asyncio.Future[None], ...] = ()

    def set(self) -> None:
        """Have all go on that wait, and nobody wait until it is cleared."""
        self._is_set = True
        for one in self._waiting:
            if not one.done():
                one.set_result(None)

    def clear(self) -> None:
        """Have whoever comes from now on wait for it to be set anew."""
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it was set since it was cleared."""
        return self._is_set

    async def wait(self) -> None:
        """Wait until it is set."""
        if self._is_set:
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting = (*self._waiting, mine)
        try:
            await mine
        finally:
            self._waiting = tuple(one for one in self._waiting if one is not mine)


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


class Turn:
    """An `asyncio.Lock`, there while somebody has it or waits for it."""

    __slots__ = ("_concerned", "_lock")

    def __init__(self) -> None:
        self._lock: asyncio.Lock | None = None
        self._concerned = 0

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._lock is not None and self._lock.locked()

    async def __aenter__(self) -> None:
        if self._lock is None:
            self._lock = asyncio.Lock()
        self._concerned += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()
        self._leave()

    def _leave(self) -> None:
        self._concerned -= 1
        if not self._concerned:
            self._lock = None
