"""A supervisor that takes a daemon for ready finds its servers listening, wherever they can."""

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE_S, running
from tests.support.mirror import Mirror
from tests.support.two_tokens import KEY


@pytest.fixture
def supervisor() -> Iterator[socket.socket]:
    """Where a daemon tells how it goes, as at systemd's."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"{directory}/notify")
        listening.settimeout(PATIENCE_S)
        yield listening


def free_ports(count: int) -> list[int]:
    """Ports at which nothing listens."""
    bound = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in bound]
    for one in bound:
        one.close()
    return ports


@pytest.mark.long
async def test_it_is_ready_once_its_servers_listen(mirror: Mirror, tmp_path: Path, supervisor: socket.socket) -> None:
    status, integrations = free_ports(2)
    settings = {
        "NOTIFY_SOCKET": supervisor.getsockname(),
        "SYNC_HTTP_BIND": f"127.0.0.1:{status}",
        "SYNC_INTEGRATION_BIND": f"127.0.0.1:{integrations}",
        "SYNC_INTEGRATION_SECRET": "the-end-of-the-path",
        "SYNC_SECRET_KEY": KEY,
    }
    async with mirror.opened(), running(mirror, tmp_path, **settings):
        assert await asyncio.to_thread(supervisor.recv, 100) == b"READY=1"
        for port in (status, integrations):
            socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.long
async def test_a_taken_port_keeps_it_from_being_ready_no_longer_than_that_is_told(
    mirror: Mirror, tmp_path: Path, supervisor: socket.socket
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        settings = {"SYNC_HTTP_BIND": f"127.0.0.1:{taken.getsockname()[1]}", "NOTIFY_SOCKET": supervisor.getsockname()}
        async with mirror.opened(), running(mirror, tmp_path, **settings) as daemon:
            assert await asyncio.to_thread(supervisor.recv, 100) == b"READY=1"
            await daemon.event("http_not_listening")
            assert daemon.count("http_listening") == 0
