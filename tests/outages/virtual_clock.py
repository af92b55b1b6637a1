"""An event loop whose time leaps over every wait, so that days pass in seconds; what travels on sockets is real."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits for a timer: where nothing can be read or written now, the time leaps to the next one."""

    def __init__(self, leap: Callable[[float], None]) -> None:
        super().__init__()
        self._leap = leap

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if not (ready := super().select(0)):
            self._leap(timeout)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._leapt_s = 0.0
        super().__init__(_Selector(self._leap))

    def time(self) -> float:
        return super().time() + self._leapt_s

    def _leap(self, seconds: float) -> None:
        self._leapt_s += seconds


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end. `loop.time()` tells the virtual time."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)
