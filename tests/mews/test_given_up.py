"""A call that is given up reaches nobody later: what the network has not taken by then is never sent again."""

import asyncio
import signal
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator

import pytest

from sync.mews.transport import HttpPool

SMALL = 2048
BODY = b"x" * 60_000 + b"THE END"
"""The kernel takes it as a whole, and whoever reads nothing gets a small part of it."""
CALL = """
import asyncio, sys
from sync.mews.transport import HttpPool
asyncio.run(HttpPool(sys.argv[1], max_response_bytes=1000).post("/", sys.stdin.buffer.read()))
"""


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Who listens, and takes little before it reads."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.setblocking(False)
        yield listening


def address(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}"


async def called(server: socket.socket) -> socket.socket:
    """The line of a call that has begun to arrive; nothing of it is read."""
    line, _ = await asyncio.get_running_loop().sock_accept(server)
    line.settimeout(30)
    await asyncio.to_thread(line.recv, 1, socket.MSG_PEEK)
    return line


def read_all(line: socket.socket) -> bytes:
    """Whatever comes until the line ends."""
    read = b""
    with line:
        try:
            while part := line.recv(65_536):
                read += part
        except ConnectionResetError:
            pass
    return read


async def test_what_is_left_of_a_cancelled_call_never_arrives(server: socket.socket) -> None:
    pool = HttpPool(address(server), max_response_bytes=1000)
    call = asyncio.create_task(pool.post("/", BODY))
    line = await called(server)
    call.cancel()
    await asyncio.wait([call])
    assert BODY[-7:] not in await asyncio.to_thread(read_all, line)
    await pool.aclose()


async def test_nor_does_that_of_a_process_that_is_killed(server: socket.socket) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CALL, address(server), stdin=PIPE)
    assert process.stdin is not None
    process.stdin.write(BODY)
    process.stdin.close()
    line = await called(server)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert BODY[-7:] not in await asyncio.to_thread(read_all, line)
