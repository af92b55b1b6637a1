"""`voucher-sync` as a process of its own."""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

OWN_PREFIXES = ("SYNC_", "MEWS_", "DATABASE_URL")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended; a negative code is the number of the signal that killed it."""

    code: int
    stdout: str
    stderr: str


async def start(*arguments: str, settings: Mapping[str, str], directory: Path, module: str = "sync") -> Process:
    """Starts a command with these settings alone, in a directory without an `.env`; its output is piped."""
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(OWN_PREFIXES)}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        env={**others, **settings}, cwd=directory, stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip


async def end(process: Process) -> Ended:
    """Waits for the end of a process."""
    stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, stdout.decode(), stderr.decode())


async def run(*arguments: str, settings: Mapping[str, str], directory: Path) -> Ended:
    """Runs a command to its end."""
    return await end(await start(*arguments, settings=settings, directory=directory))
