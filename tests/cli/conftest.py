"""Commands as processes of their own."""

import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.loaded import LoadedCommands, commands
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror
from tests.support.process import Ended

PASSWORD = "the-password"
SHOWN_SOON = {"SYNC_LEASE_S": "1", "SYNC_SETTLE_AFTER_S": "0.5"}
"""The simulator shows what it was sent at once, and a pull sees it once its second is over."""

Cli = Callable[..., Awaitable[Ended]]
"""Runs a command, given as its words and its settings."""


@pytest.fixture(scope="session")
def loaded() -> LoadedCommands:
    """What runs commands without loading their libraries each time."""
    return commands()


@pytest.fixture
def cli(tmp_path: Path, loaded: LoadedCommands) -> Cli:
    """Runs a command to its end. Whatever it was, it showed no traceback and no secret."""

    async def run_command(*arguments: str, settings: Mapping[str, str]) -> Ended:
        ended = await loaded.run(*arguments, settings=settings, directory=tmp_path)
        shown = ended.stdout + ended.stderr
        assert not [one for one in ("Traceback", CLIENT_TOKEN, ACCESS_TOKEN, PASSWORD) if one in shown], shown
        return ended

    return run_command


@pytest.fixture
def mirror(database_url: str) -> Mirror:
    """A hotel with a voucher and three codes, which nobody has mirrored yet."""
    mirror = Mirror(database_url)
    mirror.add_codes(mirror.add_voucher(), ["A", "B", "C"])
    return mirror


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody else will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def unreachable_url(closed_port: int) -> str:
    """The URL of a database that is not there."""
    return f"postgresql://someone:{PASSWORD}@127.0.0.1:{closed_port}/vouchers"
