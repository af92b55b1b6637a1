"""`voucher-sync` as a process of its own."""

import asyncio
import os
import pty
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

OWN_PREFIXES = ("SYNC_", "MEWS_", "DATABASE_URL")
KEPT_FROM_IT = (*OWN_PREFIXES, "PYTEST_")
"""Variables of the tests that a command is not to have."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended; a negative code is the number of the signal that killed it."""

    code: int
    stdout: str
    stderr: str


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's variables, of the service's own these settings alone."""
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(KEPT_FROM_IT)}
    return {**others, **settings}


async def start(*arguments: str, settings: Mapping[str, str], directory: Path, module: str = "sync") -> Process:
    """Starts a command with these settings alone, in a directory without an `.env`; its output is piped."""
    return await _start(arguments, settings, directory, module, PIPE)


async def _start(
    arguments: Sequence[str], settings: Mapping[str, str], directory: Path, module: str, output: int
) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        env=environment(settings), cwd=directory, stdin=DEVNULL, stdout=output, stderr=output,
    )  # fmt: skip


class Running(Protocol):
    """What this asks of a process."""

    @property
    def returncode(self) -> int | None:
        """None while it runs."""

    async def communicate(self) -> tuple[bytes, bytes]:
        """What is left of its output, to its end."""


async def end(process: Running) -> Ended:
    """Waits for the end of a process."""
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, stdout.decode(), stderr.decode())


async def run(*arguments: str, settings: Mapping[str, str], directory: Path) -> Ended:
    """Runs a command to its end."""
    return await end(await start(*arguments, settings=settings, directory=directory))


async def run_on_terminal(*arguments: str, settings: Mapping[str, str], directory: Path) -> Ended:
    """Runs a command to its end on a terminal, which shows both streams."""
    ours, its = pty.openpty()
    process = await _start(arguments, settings, directory, "sync", its)
    os.close(its)
    try:
        shown = await asyncio.to_thread(_read_to_end, ours)
    finally:
        os.close(ours)
    return Ended(await process.wait(), shown, "")


def _read_to_end(terminal: int) -> str:
    parts: list[bytes] = []
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:
            part = b""  # on Linux a terminal that nobody has open any more ends so
        if not part:
            return b"".join(parts).decode().replace("\r\n", "\n")
        parts.append(part)
