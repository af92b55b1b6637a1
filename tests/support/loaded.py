"""`voucher-sync` as a process of its own that has its libraries already: a fork of one that has loaded them.

Loading takes most of a command's processor time, and hundreds of tests are about anything but that. What a process
makes of its surroundings when it begins is not tested so: whoever sets other variables than the service's own gets one
that begins at nothing, and `tests/cli/test_start.py` runs every command in such a one.
"""

import asyncio
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from subprocess import PIPE

from tests.support.process import OWN_PREFIXES, Ended, environment, run

MODULES = (
    "once", "adopt", "migrate", "roles", "check", "status", "audit",
    "outbox.changes", "outbox.generate", "outbox.import_codes", "outbox.show",
)  # fmt: skip
CHECKOUT = Path(__file__).parents[2]


class LoadedCommands:
    """Runs commands in forks of a process that waits at the other end of `requests`; `forks` counts them."""

    def __init__(self, requests: socket.socket, surroundings: Mapping[str, str]) -> None:
        self._requests = requests
        self._surroundings = surroundings
        self.forks = 0

    async def run(self, *arguments: str, settings: Mapping[str, str], directory: Path) -> Ended:
        """Runs a command to its end, with these settings alone."""
        if self._surroundings != environment({}) or not all(name.startswith(OWN_PREFIXES) for name in settings):
            return await run(*arguments, settings=settings, directory=directory)
        self.forks += 1
        request, stdout, stderr, code = (os.pipe() for _ in range(4))
        theirs = (request[0], stdout[1], stderr[1], code[1])
        try:
            socket.send_fds(self._requests, [b"+"], theirs)
        finally:
            for file in theirs:
                os.close(file)
        _ask(request[1], [arguments, environment(settings), str(directory)])
        output, errors, ended = await asyncio.gather(*(_read(pipe[0]) for pipe in (stdout, stderr, code)))
        return Ended(int(ended), output, errors)


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


def _ask(pipe: int, request: object) -> None:
    with os.fdopen(pipe, "w", encoding="utf-8") as asked:
        json.dump(request, asked)


async def _read(pipe: int) -> str:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", 0)
    )
    try:
        return (await reader.read()).decode()
    finally:
        transport.close()


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
            _tell_end(command, *files)
        for file in files:
            os.close(file)


def _tell_end(command: int, request: int, stdout: int, stderr: int, code: int) -> None:
    """Ends this process when a command's has ended."""
    for file in (request, stdout, stderr):
        os.close(file)
    _, status = os.waitpid(command, 0)
    os.write(code, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _set_up(request: int, stdout: int, stderr: int, code: int) -> None:
    """Makes of this process what the request asks for."""
    os.close(code)
    with os.fdopen(request, encoding="utf-8") as asked:
        arguments, variables, directory = json.load(asked)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(directory)
    sys.argv = ["voucher-sync", *arguments]
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), stdout, stderr)):
        os.dup2(file, number)
        os.close(file)


def serve(run_command: Callable[[], object]) -> None:
    """Loads the libraries, and runs what is asked for with `sys.argv` and variables as a process has them."""
    for name in MODULES:
        import_module(f"sync.cli.{name}")
    if _is_command(socket.socket(fileno=os.dup(0))):
        run_command()


if __name__ == "__main__":
    serve(lambda: runpy.run_module("sync", run_name="__main__", alter_sys=True))
