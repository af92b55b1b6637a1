"""A process of the service from its start to its end; what it tells is read as it comes, and judged."""

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from tests.support import loaded
from tests.support.daemon import STOP_S
from tests.support.loaded import Loaded
from tests.support.process import start


class DaemonProcess:
    """One process. `errors` are those it ended with.

    `wrong` lists what it told that it never may: a defect of ours, a secret, something that is no line of a log.
    """

    def __init__(self, process: Process | Loaded, secrets: Collection[str]) -> None:
        self.errors: list[str] = []
        self.wrong: list[str] = []
        self._process = process
        self._secrets = secrets
        self._has_started = False
        self._pulls = 0
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self.on_end(self._news.set)

    @classmethod
    async def begun(
        cls,
        *arguments: str,
        settings: Mapping[str, str],
        directory: Path,
        secrets: Collection[str],
        dies_at_step: int | None = None,
    ) -> "DaemonProcess":
        """A new process, which kills itself at a step of its event loop if told so."""
        if dies_at_step is None:
            return cls(await loaded.start(*arguments, settings=settings, directory=directory), secrets)
        arguments = (str(dies_at_step), *arguments)
        process = await start(
            *arguments, settings=settings, directory=directory, module="tests.simulation.self_killing"
        )
        return cls(process, secrets)

    @property
    def is_over(self) -> bool:
        """Whether it has told its last."""
        return self._reading.done()

    @property
    def code(self) -> int | None:
        """The exit code, a signal's number with a minus; None while it runs."""
        return self._process.returncode

    @property
    def was_killed(self) -> bool:
        """Whether a kill -9 ended it."""
        return self.code == -signal.SIGKILL

    def on_end(self, then: Callable[[], None]) -> None:
        """Has something done once it has printed its last line."""
        self._reading.add_done_callback(lambda _: then())

    def kill(self) -> None:
        """Kills it with -9, without waiting for its end."""
        if self.code is None:
            self._process.kill()

    async def pulled(self, patience_s: float) -> bool:
        """Waits for its next pull that succeeds; False if there is none in time, or it is gone."""
        before = self._pulls
        try:
            async with asyncio.timeout(patience_s):
                while self._pulls == before and not self.is_over:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return self._pulls > before

    async def ended(self) -> None:
        """Waits for its end."""
        await asyncio.shield(self._reading)
        await self._process.communicate()

    async def stopped(self) -> None:
        """Stops it as a supervisor does; that must succeed in time, once it has said that it has started."""
        if self.code is None:
            self._process.terminate()
        async with asyncio.timeout(STOP_S):
            await self.ended()
        is_too_young = self.code == -signal.SIGTERM and not self._has_started
        if self.code != 0 and not is_too_young:
            self.wrong.append(f"a stop ended with {self.code}")

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            self._judge(raw.decode())
            self._news.set()

    def _judge(self, line: str) -> None:
        if any(secret in line for secret in self._secrets):
            self.wrong.append("a secret was printed")  # not which: a report is printed too
        try:
            event = json.loads(line)["event"]
        except ValueError:
            if line.startswith("Error: "):
                self.errors.append(line)
            else:
                self.wrong.append(f"printed: {line}")
        else:
            self._has_started |= event == "started"
            self._pulls += event == "pulled"
            if event == "defect":
                self.wrong.append(line)
