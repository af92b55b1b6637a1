"""A process that is stopped at the kernel's door: by a debugger, where it is about to send certain bytes."""

import asyncio
import os
import platform
import shutil
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

WORD = 8
"""Bytes that are compared, as a number."""
AT_ENTRY = -38
"""What the register of a call's result shows before there is one: the catchpoint is met on the way back too."""
ATTACHED, STOPPED = b"attached", b"Catchpoint 1 (call to syscall sendto)"

needs_debugger = pytest.mark.skipif(
    shutil.which("gdb") is None or platform.machine() != "x86_64" or os.geteuid() != 0,
    reason="takes gdb, an x86-64 processor and root",
)


class StoppedProcess:
    """A process under the debugger."""

    def __init__(self, debugger: Process, gate: Path) -> None:
        self._debugger = debugger
        self._gate = gate
        self.heard: list[bytes] = []

    async def hears(self, words: bytes) -> None:
        """Waits until the debugger tells of something."""
        assert self._debugger.stdout is not None
        async for line in self._debugger.stdout:
            self.heard.append(line)
            if words in line:
                return
        raise AssertionError(f"the debugger ended without {words!r}: {self.heard}")

    async def is_stopped(self) -> None:
        """Waits until it is, with its bytes not sent."""
        await self.hears(STOPPED)

    async def go_on(self) -> None:
        """Has the kernel send them, and lets the process be."""
        await asyncio.to_thread(self._gate.write_text, "")
        await self._debugger.wait()


@asynccontextmanager
async def held_at_send(pid: int, begins_with: bytes, directory: Path) -> AsyncIterator[StoppedProcess]:
    """Attaches to a process, to stop it where it next sends what begins so; ended, it goes on wherever it is."""
    gate, number = directory / "gate", int.from_bytes(begins_with[:WORD], "little")
    os.mkfifo(gate)
    commands = (
        "set auto-solib-add off", "set pagination off", f"attach {pid}", "catch syscall sendto",
        f"condition 1 $rax == {AT_ENTRY} && *(unsigned long*)$rsi == {number}", f"echo {ATTACHED.decode()}\\n",
        "continue", f"shell cat {gate}", "detach",
    )  # fmt: skip
    arguments = [word for command in commands for word in ("-ex", command)]
    debugger = await asyncio.create_subprocess_exec(
        "gdb", "-nx", "-batch", *arguments, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    try:
        held = StoppedProcess(debugger, gate)
        await held.hears(ATTACHED)
        yield held
    finally:
        if debugger.returncode is None:
            with suppress(ProcessLookupError):
                debugger.terminate()
            await debugger.wait()
