"""A proxy before a database that cuts the line: at once, at any statement, or at the commit of a certain one."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import quote

from psycopg.conninfo import conninfo_to_dict

CHUNK = 65536
COMMIT = b"COMMIT"
DEFAULT_PORT = 5432


class Proxy:
    """Passes on to a database what comes to `url`. While it `is_down`, new lines are cut at once.

    `cuts` counts the lines that it cut; `was_cut` is set once one is cut at a statement, and `swallowed` once a line
    that fell silent has kept something back. `statements` counts what came for the database, `on_statement` gets each,
    and `on_commit` is awaited before a commit is passed on.
    """

    def __init__(self, database_url: str) -> None:
        self._target = {name: str(value) for name, value in conninfo_to_dict(database_url).items()}
        self._lines = set[asyncio.Task[None]]()
        self._statements_left = 0
        self._mark: bytes | None = None
        self._is_answered = False
        self._silencer: bytes | None = None
        self.url = ""
        self.is_down = False
        self.cuts = 0
        self.was_cut = asyncio.Event()
        self.statements = 0
        self.on_statement: Callable[[bytes], None] = lambda statement: None
        self.on_commit: Callable[[], Awaitable[None]] | None = None
        self.swallowed = asyncio.Event()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._holds_at: bytes | None = None
        self._is_committed = False
        self.was_held = asyncio.Event()

    @asynccontextmanager
    async def served(self, host: str = "127.0.0.1") -> AsyncIterator["Proxy"]:
        """Listens on a port of its own, at an address of this machine."""
        server = await asyncio.start_server(self._accept, host, 0)
        port = server.sockets[0].getsockname()[1]
        secret = f":{quote(password)}" if (password := self._target.get("password")) else ""
        self.url = f"postgresql://{self._target['user']}{secret}@{host}:{port}/{self._target['dbname']}"
        try:
            yield self
        finally:
            server.close()
            for line in self._lines:
                line.cancel()
            await asyncio.gather(*self._lines, return_exceptions=True)
            await server.wait_closed()

    def cut(self) -> None:
        """Cuts every line there is."""
        self.cuts += len(self._lines)
        for line in self._lines:
            line.cancel()

    def cut_at(self, statement: int, *, is_answered: bool) -> None:
        """Cuts a line at the so-manieth statement from now on: before the database gets it, or once it has answered.

        In the second case nobody learns the answer: a commit has taken place or not.
        """
        self._statements_left, self._is_answered = statement, is_answered

    def cut_at_commit(self, mark: bytes, *, is_answered: bool) -> None:
        """The same at the commit of the next transaction with a statement that has these words."""
        self._mark, self._is_answered = mark, is_answered

    def silence_after(self, statement: bytes) -> None:
        """Behind the answer to the next statement with these words nothing comes back on its line, which stays open."""
        self._silencer = statement

    def break_down(self) -> None:
        """Cuts every line, and every one that is made from now on."""
        self.is_down = True
        self.cut()

    def hold(self) -> None:
        """Nothing passes any more, either way, and no line is closed: as where a route is lost. Sets `was_held`."""
        self._is_open.clear()
        self.was_held.set()

    def hold_at_commit(self, mark: bytes, *, is_committed: bool) -> None:
        """The same from the commit on of the next transaction with a statement that has these words, which the
        database gets or does not get.
        """
        self._holds_at, self._is_committed = mark, is_committed

    def let_be(self) -> None:
        """Nothing is cut or held any more."""
        self._statements_left, self.is_down = 0, False
        self._is_open.set()

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self._lines.add(line)
        try:
            # Cancelled is cut, and a side that is gone ends the line too.
            with suppress(OSError, asyncio.CancelledError):
                if self.is_down:
                    self.cuts += 1
                else:
                    await self._pass_on(reader, writer)
        finally:
            self._lines.discard(line)
            writer.transport.abort()

    async def _pass_on(self, reader: StreamReader, writer: StreamWriter) -> None:
        answers, database = await self._connect()
        is_last, falls_silent = asyncio.Event(), asyncio.Event()
        pumps = (
            asyncio.create_task(self._pass_questions(reader, database, is_last, falls_silent)),
            asyncio.create_task(self._pass_answers(answers, writer, is_last, falls_silent)),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Before anything is waited for: a line that is cut while it ends by itself would leave the session open.
            database.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _connect(self) -> tuple[StreamReader, StreamWriter]:
        await self._is_open.wait()
        host, port = self._target.get("host", "localhost"), int(self._target.get("port", DEFAULT_PORT))
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _pass_questions(
        self, reader: StreamReader, database: StreamWriter, is_last: asyncio.Event, falls_silent: asyncio.Event
    ) -> None:
        """psycopg writes a statement at a time, and waits for its answer."""
        is_marked = is_to_be_held = False
        while question := await reader.read(CHUNK):
            if self._silencer is not None and self._silencer in question:
                self._silencer = None
                falls_silent.set()
            is_marked = is_marked or (self._mark is not None and self._mark in question)
            is_to_be_held = is_to_be_held or (self._holds_at is not None and self._holds_at in question)
            if is_to_be_held and COMMIT in question:
                self._holds_at, is_to_be_held = None, False
                if self._is_committed:
                    database.write(question)
                    question = b""  # it has been passed on
                self.hold()
            if self._is_to_be_cut(question, is_marked=is_marked):
                self.cuts += 1
                self.was_cut.set()
                if not self._is_answered:
                    return
                is_last.set()
            if self.on_commit is not None and COMMIT in question:
                await self.on_commit()
            await self._is_open.wait()
            database.write(question)
            await database.drain()

    def _is_to_be_cut(self, question: bytes, *, is_marked: bool) -> bool:
        self.statements += 1
        self.on_statement(question)
        self._statements_left -= 1
        if is_marked and COMMIT in question:
            self._mark = None
            return True
        return self._statements_left == 0

    async def _pass_answers(
        self, answers: StreamReader, writer: StreamWriter, is_last: asyncio.Event, falls_silent: asyncio.Event
    ) -> None:
        is_silent = False
        while answer := await answers.read(CHUNK):
            if is_last.is_set():
                return
            if is_silent:
                self.swallowed.set()
                continue
            is_silent = falls_silent.is_set()
            await self._is_open.wait()
            writer.write(answer)
            await writer.drain()
