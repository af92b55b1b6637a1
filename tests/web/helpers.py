"""What the tests of this folder share: the server in the test's own loop, and requests as bytes."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from sync.core.bind_address import BindAddress
from sync.mews.transport import HttpPools
from sync.service import app
from sync.service.jobs import Jobs
from sync.service.running import Running
from sync.web.server import serve
from tests.support.mirror import Mirror
from tests.support.owner import Owner

MAX_BYTES = 2**20
TOKEN = "a-token-of-many-characters"
LOOPBACK = BindAddress("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, headers by their name in small letters, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, which is JSON."""
        assert self.headers["content-type"].startswith("application/json")
        return json.loads(self.body)


@dataclass(slots=True)
class Site:
    """A server on a port of 127.0.0.1, the jobs that it tells of, and the replica that owns these."""

    port: int
    jobs: Jobs
    owner: Owner
    logs: list[Any] = field(default_factory=list)

    async def beat(self) -> None:
        """Has the replica tell of the jobs."""
        await self.owner.beat([self.jobs])

    async def get(self, path: str, *, method: str = "GET", **headers: str) -> Answer:
        """What a path answers; a header's name is written with underscores."""
        given = {"host": f"127.0.0.1:{self.port}"} | {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        return read_answer(await self.send("\r\n".join(lines).encode()))

    async def send(self, request: bytes) -> bytes:
        """All that comes back for these bytes until the server ends the connection."""
        return await exchange(self.port, request)


async def exchange(port: int, request: bytes) -> bytes:
    """All that comes back for these bytes from a port of 127.0.0.1 until that ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def read_answer(received: bytes, version: str = "HTTP/1.1") -> Answer:
    """One answer, to the end of its connection."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith(f"{version} "), received
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    is_chunked = headers.get("transfer-encoding") == "chunked" and body
    return Answer(int(first.split()[1]), headers, b"".join(_chunks(body)) if is_chunked else body)


def _chunks(body: bytes) -> Iterator[bytes]:
    size, after = -1, body
    while size:
        line, _, after = after.partition(b"\r\n")
        size = int(line, 16)
        assert after[size : size + 2] == b"\r\n", "it was cut"
        yield after[:size]
        after = after[size + 2 :]


@asynccontextmanager
async def serving(
    mirror: Mirror, jobs: Jobs | None = None, *, pools: HttpPools | None = None, **settings: Any
) -> AsyncIterator[Site]:
    """The server over an opened mirror, and jobs that have not begun anything unless they are given."""
    pools = pools or HttpPools(MAX_BYTES)
    all_settings = mirror.settings(**settings)
    jobs = jobs or app.make_jobs(mirror.connection, all_settings)
    running = Running(
        all_settings, mirror.connection.engine, [jobs], mirror.stop, datetime.now(UTC), pools, "a-database"
    )
    with structlog.testing.capture_logs() as logs:
        listening = asyncio.create_task(serve(running, LOOPBACK))
        try:
            while not logs:
                await asyncio.wait([listening], timeout=0.01)
            port = int(logs[0]["address"].rstrip("/").rpartition(":")[2])
            yield Site(port, jobs, Owner(mirror.connection, all_settings), logs)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
