"""A line to PostgreSQL that is cut at a chosen instant: before a COMMIT reaches the server, or after it was done there.

Who committed sees the same error both times, and cannot know which it was.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

from tests.support.postgres import database_of

COMMIT = b"COMMIT"


class Line:
    """Passes every session on to the server. `cuts` is set once the armed cut has happened."""

    def __init__(self, url: str) -> None:
        self.cuts = asyncio.Event()
        self._server = conninfo_to_dict(url)
        self._mark: bytes | None = None
        self._commits = False

    def cut_at_commit_after(self, mark: bytes, *, commits: bool) -> None:
        """Cut the first session that commits after a statement with these words; `commits`: the server still does."""
        self._mark, self._commits = mark, commits

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One session."""
        host, port = self._server["host"], self._server.get("port", 5432)
        if str(host).startswith("/"):
            answers, server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            answers, server = await asyncio.open_connection(str(host), int(port or 5432))
        back = asyncio.create_task(self._copy(answers, writer))
        try:
            await self._forward(reader, server, answers, back)
        finally:
            back.cancel()
            for one in (server, writer):
                one.close()
                with suppress(ConnectionError):
                    await one.wait_closed()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        back: "asyncio.Task[None]",
    ) -> None:
        is_marked = False
        while data := await reader.read(1 << 20):
            is_marked = is_marked or (self._mark is not None and self._mark in data)
            if is_marked and COMMIT in data:
                self._mark = None
                back.cancel()
                await asyncio.wait([back])
                if self._commits:
                    server.write(data)
                    await answers.read(1 << 16)  # it is committed, and nobody is told
                self.cuts.set()
                return
            server.write(data)

    async def _copy(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await answers.read(1 << 20):
            writer.write(data)


@asynccontextmanager
async def line_to(url: str) -> AsyncIterator[tuple[Line, str]]:
    """A line to a database, and the URL that leads along it."""
    line = Line(url)
    user = line._server.get("user", "")
    password = f":{quote(str(line._server['password']))}" if line._server.get("password") else ""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / ".s.PGSQL.5432"
        async with await asyncio.start_unix_server(line.pass_on, path):
            yield line, f"postgresql://{user}{password}@/{database_of(url)}?host={quote(directory, safe='/')}"
