"""Whoever is told something over HTTP: a chat program's webhook, a dead man's switch."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(slots=True)
class Call:
    """One POST that came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body's object."""
        told: dict[str, Any] = json.loads(self.body)
        return told


@dataclass
class Receiver:
    """Takes every POST, or answers with the `statuses` that are left; `calls` are those that came. Where a status
    redirects, it does to `location`. Each answer sets a cookie of another name.
    """

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    location: str = "/elsewhere"
    calls: list[Call] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self, number: int) -> Call:
        """The call of this number, from 1 on, once it has come."""
        while len(self.calls) < number:
            self._came.clear()
            await self._came.wait()
        return self.calls[number - 1]

    async def take(self, request: web.Request) -> web.Response:
        """Takes a call."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append(Call(request.path_qs, headers, await request.read()))
        self._came.set()
        status = self.statuses.pop(0) if self.statuses else 200
        answer = web.Response(status=status, headers={"Location": self.location})
        answer.set_cookie(f"seen-{len(self.calls)}", "yes")
        return answer


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver at an address of its own, with something secret in its path."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/the-secret-path"
        yield receiver
    finally:
        await runner.cleanup()
