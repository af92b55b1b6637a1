"""The points of a process: each moment at which an await of `sync/` is asked for or answered, found by the program.

What a process does to others (a statement, a commit, a request) leaves it before some await, and what it learns of them
comes back with one. So a kill at every such moment leaves no two of those effects apart that it does not part.
"""

import asyncio
import gc
import os
import signal
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

PRODUCT = str(Path(__file__).parents[2] / "sync") + os.sep
DRAWING = f"{PRODUCT}cli/progress.py"
"""What looks on every moment and draws has no effect to part, and comes between the others by the clock."""
LINKS = (("cr_frame", "cr_await"), ("ag_frame", "ag_await"), ("gi_frame", "gi_yieldfrom"))
"""By kind of what can be suspended: its frame, and what it waits for."""
SUSPENDED = (CoroutineType, AsyncGeneratorType, GeneratorType)


def trace(arrive: Callable[[str], None]) -> None:
    """Has every event loop that begins from now on tell its points, each by a name, as they come."""
    begin, tracer = asyncio.BaseEventLoop.__init__, _Tracer(arrive)

    def begin_traced(loop: Any) -> None:
        begin(loop)
        loop.set_task_factory(tracer.make_task)

    asyncio.BaseEventLoop.__init__ = begin_traced  # type: ignore[assignment, method-assign] # whichever loop a command takes


def die_at(last: str, file: Path) -> Callable[[str], None]:
    """Notes each point in a file as it comes, and kills this process at the one with that name: nothing is closed."""
    notes = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def arrive(point: str) -> None:
        os.write(notes, f"{point}\n".encode())
        if point == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return arrive


class _Tracer:
    def __init__(self, arrive: Callable[[str], None]) -> None:
        self._arrive, self._seen = arrive, Counter[str]()

    def make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        draws = isinstance(coro, CoroutineType) and coro.cr_code.co_filename == DRAWING
        return asyncio.Task(coro if draws else _Traced(coro, self._tell), loop=loop, **options)

    def _tell(self, moment: str) -> None:
        self._seen[moment] += 1
        self._arrive(f"{moment} #{self._seen[moment]}")


class _Traced(Coroutine[Any, Any, Any]):
    """A task's coroutine that tells when it begins to wait elsewhere than before, and when that is first answered."""

    def __init__(self, coro: Coroutine[Any, Any, Any], tell: Callable[[str], None]) -> None:
        self._coro, self._tell = coro, tell
        self._waits: list[tuple[CodeType, int]] = []
        self._name, self._is_answered = "", True

    def send(self, value: Any) -> Any:
        return self._step(self._coro.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._coro.throw, *error)

    def close(self) -> None:
        self._coro.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coro.__await__()

    def _step(self, go_on: Callable[..., Any], *arguments: Any) -> Any:
        if not self._is_answered:
            self._is_answered = True
            self._tell(f"answered {self._name}")
        awaited = go_on(*arguments)
        frames = list(_frames(self._coro))
        waits = [(frame.f_code, frame.f_lineno) for frame in frames]
        if waits != self._waits:
            self._waits = waits
            self._name = " > ".join(_ours(frames))
            self._is_answered = not self._name  # what no code of ours waits for is no point
            if self._name:
                self._tell(f"asked {self._name}")
        return awaited


def _ours(frames: list[FrameType]) -> Iterator[str]:
    for frame in frames:
        if (path := frame.f_code.co_filename).startswith(PRODUCT):
            yield f"{path.removeprefix(PRODUCT)}:{frame.f_lineno}"


def _frames(waiting: object) -> Iterator[FrameType]:
    """Where each coroutine stands, from a task's own one inwards to what waits for the loop."""
    while waiting is not None:
        for frame, awaited in LINKS:
            if hasattr(waiting, frame):
                if (found := getattr(waiting, frame)) is not None:
                    yield found
                waiting = getattr(waiting, awaited)
                break
        else:
            # Steps of asynchronous generators and coroutines' wrappers show whose they are to the collector alone.
            waiting = next((one for one in gc.get_referents(waiting) if isinstance(one, SUSPENDED)), None)
