"""A network of its own for a process, which sees this machine over one interface that can go down.

The database is on the other side of the interface; the API, which takes plain HTTP only from its own machine, behind a
socket that is a file, and so stays within reach.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.process import environment
from tests.support.relay import copy_both

OURS, ITS = "10.213.77.1", "10.213.77.2"


def _can_have_one() -> bool:
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(
        ["unshare", "-n", "ip", "link", "add", "v0", "type", "veth"], capture_output=True, check=False
    )
    return tried.returncode == 0


needs_network = pytest.mark.skipif(not _can_have_one(), reason="takes root, iproute2 and network namespaces")


class Network:
    """`name` of the namespace; its interface is named after it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def set_link(self, state: str) -> None:
        """Has the interface `up` or `down`."""
        _ip("link", "set", self.name, state)

    @asynccontextmanager
    async def running(self, settings: Mapping[str, str], directory: Path) -> AsyncIterator[Daemon]:
        """A daemon in it."""
        process = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", self.name, sys.executable, "-m", "sync", "run",
            env=environment(settings), cwd=directory, stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        try:
            yield Daemon(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@asynccontextmanager
async def network(api_port: int, directory: Path) -> AsyncIterator[Network]:
    """One in which the API answers at the same address as here."""
    made = Network(f"vs{os.getpid()}")
    _ip("netns", "add", made.name)
    try:
        _ip("link", "add", made.name, "type", "veth", "peer", "name", "eth0", "netns", made.name)
        _ip("addr", "add", f"{OURS}/30", "dev", made.name)
        made.set_link("up")
        for words in (f"addr add {ITS}/30 dev eth0", "link set eth0 up", "link set lo up"):
            _ip("-n", made.name, *words.split())
        async with _relayed(made.name, api_port, directory / "api"):
            yield made
    finally:
        _ip("netns", "del", made.name)


@asynccontextmanager
async def _relayed(name: str, port: int, socket: Path) -> AsyncIterator[None]:
    """What is sent to a port there comes to the same port here, by way of a socket that is a file."""

    async def pass_on(reader: StreamReader, writer: StreamWriter) -> None:
        await copy_both(reader, writer, *await asyncio.open_connection("127.0.0.1", port))

    server = await asyncio.start_unix_server(pass_on, socket)
    root = Path(__file__).parents[2]
    relay = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", name, sys.executable, "-m", "tests.support.relay", str(port), str(socket),
        cwd=root, stdin=DEVNULL, stdout=PIPE,
    )  # fmt: skip
    try:
        assert relay.stdout is not None
        await relay.stdout.readline()  # it listens
        yield
    finally:
        relay.kill()
        await relay.wait()
        server.close()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
