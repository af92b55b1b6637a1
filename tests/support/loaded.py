"""`voucher-sync` as a process of its own that has its libraries already: a fork of one that has loaded them.

Loading takes most of a command's processor time, and hundreds of tests are about anything but that. What a process
makes of its surroundings when it begins is not tested so: whoever sets other variables than the service's own, or runs
another release, gets one that begins at nothing, and `tests/cli/test_start.py` runs every command in such a one.
"""

import asyncio
import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from asyncio import StreamReader, StreamReaderProtocol
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from random import Random
from subprocess import PIPE

from tests.support import process
from tests.support.process import OWN_PREFIXES, Ended, end, environment

COMMANDS = (
    "run", "once", "adopt", "migrate", "roles", "check", "status", "audit",
    "outbox.changes", "outbox.generate", "outbox.import_codes", "outbox.show",
)  # fmt: skip
MODULES = (*(f"sync.cli.{name}" for name in COMMANDS), "sync.web.server")
CHECKOUT = Path(__file__).parents[2]


class Loaded:
    """A command in such a fork: what an `asyncio.subprocess.Process` has, as far as tests ask for it."""

    def __init__(self, pid: int, stdout: StreamReader, stderr: StreamReader, told: StreamReader) -> None:
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._note_end(told))

    async def _note_end(self, told: StreamReader) -> None:
        self.returncode = int(await told.read())

    async def wait(self) -> int:
        """Its exit code, once it has ended; a signal's number with a minus."""
        await asyncio.shield(self._ended)
        assert self.returncode is not None
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """What is left of its output, to its end."""
        stdout, stderr, _ = await asyncio.gather(self.stdout.read(), self.stderr.read(), self.wait())
        return stdout, stderr

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal. `ProcessLookupError` where it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a word."""
        self.send_signal(signal.SIGKILL)


class LoadedCommands:
    """Runs commands in forks of a process that waits at the other end of `requests`; `forks` counts them."""

    def __init__(self, requests: socket.socket, surroundings: Mapping[str, str]) -> None:
        self._requests = requests
        self._surroundings = surroundings
        self.forks = 0

    async def start(self, *arguments: str, settings: Mapping[str, str], directory: Path) -> Process | Loaded:
        """A command with these settings alone, whose output is piped."""
        is_other_release = (directory / "sync").exists()
        has_others = self._surroundings != environment({}) or not all(map(_is_own, settings))
        if is_other_release or has_others:
            return await process.start(*arguments, settings=settings, directory=directory)
        self.forks += 1
        request, stdout, stderr, told = (os.pipe() for _ in range(4))
        theirs = (request[0], stdout[1], stderr[1], told[1])
        try:
            socket.send_fds(self._requests, [b"+"], theirs)
        finally:
            for file in theirs:
                os.close(file)
        _ask(request[1], [arguments, environment(settings), str(directory)])
        output, errors, ends = [await _reader(pipe[0]) for pipe in (stdout, stderr, told)]
        return Loaded(int(await ends.readline()), output, errors, ends)

    async def run(self, *arguments: str, settings: Mapping[str, str], directory: Path) -> Ended:
        """Runs a command to its end, with these settings alone."""
        return await end(await self.start(*arguments, settings=settings, directory=directory))


@contextmanager
def loaded_commands(module: str = __name__) -> Iterator[LoadedCommands]:
    """The process that has the libraries, for as long as the block runs; `module` is one that calls `serve`."""
    ours, theirs = socket.socketpair()
    surroundings = environment({})
    command = [sys.executable, "-m", module]
    with ours, theirs:
        # Its streams are pipes, as those of a command are: Python looks when it begins whether it can seek in them.
        with subprocess.Popen(command, stdin=theirs.fileno(), stdout=PIPE, stderr=PIPE, env=surroundings, cwd=CHECKOUT):
            theirs.close()
            try:
                yield LoadedCommands(ours, surroundings)
            finally:
                ours.close()  # it ends where its requests do


@cache
def commands() -> LoadedCommands:
    """Those of this process, begun when they are first asked for."""
    kept = ExitStack()
    atexit.register(kept.close)
    return kept.enter_context(loaded_commands())


async def start(*arguments: str, settings: Mapping[str, str], directory: Path) -> Process | Loaded:
    """As `LoadedCommands.start`."""
    return await commands().start(*arguments, settings=settings, directory=directory)


async def run(*arguments: str, settings: Mapping[str, str], directory: Path) -> Ended:
    """As `LoadedCommands.run`."""
    return await commands().run(*arguments, settings=settings, directory=directory)


def _is_own(variable: str) -> bool:
    return variable.startswith(OWN_PREFIXES)


def _ask(pipe: int, request: object) -> None:
    with os.fdopen(pipe, "w", encoding="utf-8") as asked:
        json.dump(request, asked)


async def _reader(pipe: int) -> StreamReader:
    """All that comes from a pipe, which is closed at its end."""
    reader = StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0))
    return reader


def _is_command(requests: socket.socket) -> bool:
    """Waits for requests: returns True in each process that is to run one, and False where there come no more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who waits for a command
    while True:
        asked, files, _, _ = socket.recv_fds(requests, 1, 4)
        if not asked:
            return False
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            if (command := os.fork()) == 0:
                _set_up(*files)
                return True
            _tell_of(command, *files)
        for file in files:
            os.close(file)


def _tell_of(command: int, request: int, stdout: int, stderr: int, told: int) -> None:
    """Tells a command's number, and its code when it has ended; then this process ends."""
    for file in (request, stdout, stderr):
        os.close(file)
    os.write(told, f"{command}\n".encode())
    _, status = os.waitpid(command, 0)
    os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _set_up(request: int, stdout: int, stderr: int, told: int) -> None:
    """Makes of this process what the request asks for."""
    os.close(told)
    with os.fdopen(request, encoding="utf-8") as asked:
        arguments, variables, directory = json.load(asked)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(directory)
    sys.argv = ["voucher-sync", *arguments]
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), stdout, stderr)):
        os.dup2(file, number)
        os.close(file)


def _voucher_sync() -> None:
    # Else all forks would draw the same, and replicas try again at one instant.
    for name, module in list(sys.modules.items()):
        for one in vars(module).values() if name.startswith("sync.") else ():
            if isinstance(one, Random):
                one.seed()
    runpy.run_module("sync", run_name="__main__", alter_sys=True)


def serve(run_command: Callable[[], object]) -> None:
    """Loads the libraries, and runs what is asked for with `sys.argv` and variables as a process has them."""
    for name in MODULES:
        import_module(name)
    if _is_command(socket.socket(fileno=os.dup(0))):
        run_command()


if __name__ == "__main__":
    serve(_voucher_sync)
