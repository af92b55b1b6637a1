"""The server in the daemon's own loop: it listens as soon as it can, and is in nobody's way."""

import asyncio
import errno
from collections.abc import Coroutine
from functools import partial
from http import HTTPStatus
from typing import Any

from aiohttp import web

from sync.core.bind_address import BindAddress
from sync.logger import structlog
from sync.service.running import Running
from sync.web.answers import finished, plain
from sync.web.app import make_app

AGAIN_AFTER_S = 5.0
"""Between two tries to listen where something else does."""
FINISH_S = 0.5
"""What is being answered when the daemon ends has so long, of the seconds that a stop may take."""
LONGEST_S = 20.0
"""A connection brings one request, and is cut after so long, whatever it is doing."""
TURNS = 3
"""Of the loop, in which asyncio makes a connection of what it has accepted."""
MAX_CONNECTIONS = 100
"""With one more the oldest is cut: who holds all of them, sending nothing, keeps nobody out."""
MAX_HEADER_BYTES = 8190
MAX_HEADERS = 64
IN_USE = "something else listens there, perhaps another voucher-sync: give one of them another address"

log = structlog.get_logger()


def serve(running: Running, address: BindAddress) -> Coroutine[Any, Any, None]:
    """What answers who asks how it is, until cancelled."""
    return serve_app(make_app(running), address, "status", running.server_tried())


async def serve_app(app: web.Application, address: BindAddress, name: str, tried: asyncio.Event) -> None:
    """Answer requests until cancelled. Where the address is not to be had, that is told, and tried again.

    `name` says in the log what is served. `tried` is set once it listens, or that was told.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=FINISH_S)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - it is there once it was set up
    listening: asyncio.Server | None = None
    try:
        listening = await _listen(runner.server, address, name, tried)
        await asyncio.Event().wait()  # asyncio's own way to wait would wait for every connection, too, in the end
    finally:
        if listening is not None:
            await _end(listening)
        await runner.cleanup()


async def _listen(server: web.Server, address: BindAddress, name: str, tried: asyncio.Event) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    make_connection = partial(_Connection, server, loop=loop)
    while True:
        try:
            listening = await loop.create_server(make_connection, address.host, address.port)
        except OSError as error:
            if not tried.is_set():
                why = IN_USE if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
                log.warning(
                    "http_not_listening", serves=name, address=str(address), why=why, again_after_s=AGAIN_AFTER_S
                )
            tried.set()
            await asyncio.sleep(AGAIN_AFTER_S)
        else:
            bound = BindAddress(address.host, listening.sockets[0].getsockname()[1])
            log.info("http_listening", serves=name, address=f"http://{bound}/")
            tried.set()
            return listening


async def _end(listening: asyncio.Server) -> None:
    """Accept nothing more, and close it. What was accepted just before becomes a connection first, which is then ended
    as all others are: asyncio would drop it without closing it, and its client wait for an answer.
    """
    for one in listening.sockets:
        asyncio.get_running_loop().remove_reader(one)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    listening.close()


class _Connection(web.RequestHandler):
    """One connection, for one request. aiohttp itself waits for ever for what is sent byte by byte."""

    __slots__ = ("_deadline", "_server")

    def __init__(self, server: web.Server, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # as its own runners turn it off
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            lingering_time=0,
        )
        self._server = server
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It has its time from now on, and another one's is over where there are too many."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - as a server's always is
        self._deadline = self._loop.call_later(LONGEST_S, transport.abort)
        oldest, *others = self._server.connections
        if len(others) >= MAX_CONNECTIONS and oldest.transport is not None:
            oldest.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing is left to be cut."""
        if self._deadline:
            self._deadline.cancel()
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """What could not be read as a request; aiohttp's own answer quotes it, and names its release."""
        return finished(plain(status, "this is no request that can be answered"))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """What aiohttp answers before the application was asked, as to an `Expect`, has our words and headers, too."""
        if isinstance(resp, web.HTTPException):
            resp = finished(plain(resp.status, HTTPStatus(resp.status).phrase))
        return await super().finish_response(request, resp, start_time)
