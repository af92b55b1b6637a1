"""The HTTP side: a real server on a real port, and answers that travel badly when they should."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from aiohttp import web

from sync.demo.simulator.answers import Answer
from sync.demo.simulator.faults import Drip, Endless, Fault, Hang, TruncatedBody
from sync.demo.simulator.instants import Clock, http_date

BLANKS = b" " * 65_536
TURNS = 3
"""Of the loop, in which asyncio makes a connection of what it has accepted."""

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as it came over the wire. `gone` is set when its client has closed the connection."""

    method: str
    path: str
    content_type: str
    raw: bytes
    arrived_s: float
    gone: asyncio.Event


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send. Without an answer, the connection is closed or left hanging, as the fault says."""

    request_id: str
    answer: Answer | None
    fault: Fault | None = None


Exchange = Callable[[Incoming], Awaitable[Reply]]


@asynccontextmanager
async def serve(
    exchange: Exchange, *, host: str, port: int, clock: Clock, timer: Callable[[], float], sleep: Sleep
) -> AsyncIterator[str]:
    """Serves until the context is left; yields the base address. Port 0 takes a free one."""
    handlers = _Handlers(exchange, clock=clock, timer=timer, sleep=sleep)
    # The limit on bodies is one of the API's rules, not of the server: 0 turns aiohttp's own off.
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", handlers.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - it is there once it was set up
    try:
        listening = await asyncio.get_running_loop().create_server(runner.server, host, port)
        try:
            yield f"http://{host}:{listening.sockets[0].getsockname()[1]}"
        finally:
            await _accept_no_more(listening)
    finally:
        handlers.stop()
        await runner.cleanup()


async def _accept_no_more(listening: asyncio.Server) -> None:
    """What was accepted just before becomes a connection first: asyncio would leave it open, and its client hanging."""
    for one in listening.sockets:
        asyncio.get_running_loop().remove_reader(one)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    listening.close()


class _Handlers:
    def __init__(self, exchange: Exchange, *, clock: Clock, timer: Callable[[], float], sleep: Sleep) -> None:
        self._exchange = exchange
        self._clock = clock
        self._timer = timer
        self._sleep = sleep
        self._running: set[asyncio.Task[web.StreamResponse]] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request. What was begun is finished even if the client goes away, as on a real server."""
        arrived_s, gone = self._timer(), asyncio.Event()
        incoming = Incoming(
            method=request.method,
            path=request.raw_path,
            content_type=request.content_type,
            raw=await request.read(),
            arrived_s=arrived_s,
            gone=gone,
        )
        task = asyncio.create_task(self._respond(request, incoming))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            gone.set()
            raise

    def stop(self) -> None:
        """Ends all answers under way, hanging ones too."""
        for task in self._running:
            task.cancel()

    async def _respond(self, request: web.Request, incoming: Incoming) -> web.StreamResponse:
        reply = await self._exchange(incoming)
        answer = reply.answer or (Answer(200, b"") if isinstance(reply.fault, Endless) else None)
        if answer is None:
            if isinstance(reply.fault, Hang):
                await incoming.gone.wait()
            return _hang_up(request)
        headers = {
            **answer.headers,
            **({"Request-Id": reply.request_id} if answer.is_named else {}),
            "Content-Type": answer.content_type,
            # Stamped when the answer leaves, as servers do: later than the reading, and a client must cope.
            "Date": http_date(self._clock()),
        }
        if isinstance(reply.fault, Endless):
            return await self._send_without_end(request, answer, headers)
        if isinstance(reply.fault, Drip | TruncatedBody):
            return await self._send_badly(request, answer, headers, reply.fault)
        return web.Response(status=answer.status, body=answer.body, headers=headers)

    async def _send_badly(
        self, request: web.Request, answer: Answer, headers: dict[str, str], fault: Drip | TruncatedBody
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.content_length = len(answer.body)
        await response.prepare(request)
        if isinstance(fault, TruncatedBody):
            await response.write(answer.body[: len(answer.body) // 2])
            _hang_up(request)
            return response
        for byte in answer.body:
            await self._sleep(fault.pause_s)
            await response.write(bytes([byte]))
        return response

    async def _send_without_end(
        self, request: web.Request, answer: Answer, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        with suppress(ConnectionError):
            await response.prepare(request)
            await response.write(answer.body)
            while True:
                await response.write(BLANKS)
        return response


def _hang_up(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.close()
    return web.Response()
