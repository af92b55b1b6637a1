"""The event loop of commands, which looks names up in threads that nothing else waits for, nor the process's end.

asyncio's own has a handful of threads for all, and joins them before a process ends. A name server that is silent takes
them all, for half a minute each: what else needs one waits behind that, and so does the end.
"""

import asyncio
import gc
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from threading import Thread
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LOOKED_FOR_AFTER = 10_000
"""So many objects more must be there before Python looks for garbage among them, while the loop stands still. By
default it looks after 700, which the rows of one batch are many times: whatever is in use then counts as there for
long, and after enough of that Python goes through all that there is, twice a second beside two busy hotels, for 17 ms.
"""
AGAIN_AFTER_S = 5.0
"""So long a resolver waits for a name server by default; who asks later may find one that is back."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """What `main` returns, as by `asyncio.run`."""
    gc.set_threshold(LOOKED_FOR_AFTER, *gc.get_threshold()[1:])
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


async def in_thread(work: Callable[[*Ts], T], *args: *Ts) -> T:
    """What `work` returns or raises, in a thread of its own. Whoever waits for it no more leaves it to itself."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def tell(how: Callable[[Any], None], what: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(lambda: None if ended.done() else how(what))

    def do() -> None:
        try:
            result = work(*args)
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            tell(ended.set_exception, error)
        else:
            tell(ended.set_result, result)

    Thread(target=do, daemon=True).start()
    return await ended


class Loop(asyncio.SelectorEventLoop):
    """As asyncio's own in all but how it looks names up."""

    def __init__(self) -> None:
        super().__init__()
        self._look_ups: dict[tuple[object, ...], tuple[float, asyncio.Task[list[Any]]]] = {}

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - as asyncio calls it
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """As `socket.getaddrinfo`; whoever asks the same at about the same time waits for one look-up together."""
        asked = (host, port, family, type, proto, flags)
        since_s, look_up = self._look_ups.get(asked, (0.0, None))
        if look_up is None or self.time() - since_s >= AGAIN_AFTER_S:
            look_up = self.create_task(in_thread(socket.getaddrinfo, *asked))
            self._look_ups[asked] = self.time(), look_up
            look_up.add_done_callback(lambda ended: self._forget(asked, ended))
        return await asyncio.shield(look_up)

    def _forget(self, asked: tuple[object, ...], ended: "asyncio.Task[list[Any]]") -> None:
        if asked in self._look_ups and self._look_ups[asked][1] is ended:
            del self._look_ups[asked]
        if not ended.cancelled():
            ended.exception()  # of which nobody may want to know any more
