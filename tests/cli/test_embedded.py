"""Without a DATABASE_URL, commands use the embedded PostgreSQL and say so first."""

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.daemon import Daemon
from tests.support.mirror import Mirror
from tests.support.process import OWN_PREFIXES, Ended, end

# Root's directory is a constant, since PostgreSQL runs as a user who reaches only what is not root's own.
MAIN = """
import sys
from pathlib import Path
from sync.postgres.embedded import directories
directories.ROOTS_DIRECTORY = Path(sys.argv.pop(1))
from sync.cli import main
main()
"""
ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a user's data directory cannot be moved by a variable"
)


@pytest.fixture
def home() -> Iterator[Path]:
    """Where the server is to lie; within the reach of other users, as /var/lib is."""
    with tempfile.TemporaryDirectory(prefix="voucher-sync-home-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name) / "voucher-sync"


async def start_at(home: Path, *arguments: str, settings: Mapping[str, str], directory: Path) -> Process:
    """Starts a command whose data directory is `home`."""
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(OWN_PREFIXES)}
    environment = {**others, "XDG_DATA_HOME": str(home.parent), **settings}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAIN, str(home), *arguments,
        env=environment, cwd=directory, stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip


async def run_at(home: Path, *arguments: str, settings: Mapping[str, str], directory: Path) -> Ended:
    """Runs such a command to its end."""
    return await end(await start_at(home, *arguments, settings=settings, directory=directory))


@asynccontextmanager
async def served_api() -> AsyncIterator[dict[str, str]]:
    """The settings for an API with three codes, and for no database of one's own."""
    mirror = Mirror("no database")
    mirror.add_codes(mirror.add_voucher(), ["A", "B", "C"])
    async with mirror.served():
        yield {name: value for name, value in mirror.environment.items() if name != "DATABASE_URL"}


@pytest.mark.long
@ON_LINUX
async def test_it_is_started_migrated_kept_and_stopped_again(home: Path, tmp_path: Path) -> None:
    about_another_server = {"PGHOSTADDR": "127.0.0.1", "PGPORT": "1", "PGSERVICE": "nowhere", "PGOPTIONS": "-c no=such"}
    async with served_api() as settings:
        once = await run_at(home, "once", settings=settings | about_another_server, directory=tmp_path)
    status = await run_at(home, "status", settings={}, directory=tmp_path)
    said = f"No DATABASE_URL is set: using the embedded PostgreSQL in {home}/postgres"
    assert (once.code, once.stderr.splitlines()[0]) == (0, said), once
    assert "3 rows written" in once.stdout
    assert (status.code, status.stderr.splitlines()) == (0, [said]), status
    assert "ok since" in status.stdout
    assert not (home / "postgres/data/postmaster.pid").exists()


@pytest.mark.sampled
@ON_LINUX
@pytest.mark.parametrize("command", ["status --healthy", "audit", "outbox add --voucher {voucher} CODE"])
async def test_who_only_asks_or_queues_makes_no_database(home: Path, tmp_path: Path, command: str) -> None:
    settings = {"MEWS_CLIENT_TOKEN": "client", "MEWS_ACCESS_TOKEN": "access"}
    words = command.format(voucher=uuid4()).split()
    ended = await run_at(home, *words, settings=settings, directory=tmp_path)
    said = f"Error: DATABASE_URL is not set, and there is no embedded PostgreSQL in {home}/postgres yet: set it"
    assert (ended.code, ended.stdout) == (2, ""), ended
    assert ended.stderr.startswith(said)
    assert list(home.parent.iterdir()) == []


@pytest.mark.long
@ON_LINUX
async def test_a_check_says_that_there_is_no_database_and_makes_none(home: Path, tmp_path: Path) -> None:
    ended = await run_at(home, "check", settings={}, directory=tmp_path)
    assert ended.code == 1
    assert f"WRONG database: DATABASE_URL is not set, and there is no embedded PostgreSQL in {home}" in ended.stdout
    assert "see that the server runs" not in ended.stdout
    assert list(home.parent.iterdir()) == []


@pytest.mark.long
@ON_LINUX
async def test_the_daemon_starts_it_again_when_it_has_died(home: Path, tmp_path: Path) -> None:
    async with served_api() as settings:
        quick = {"SYNC_PULL_INTERVAL_S": "0.5", "SYNC_LEASE_S": "3"}
        process = await start_at(home, "run", settings={**settings, **quick}, directory=tmp_path)
        try:
            await it_is_revived(process, home / "postgres/data/postmaster.pid")
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


def pid_in(path: Path) -> int:
    """The process that a server's file names; 0 without one."""
    return int(path.read_text().partition("\n")[0]) if path.exists() else 0


async def it_is_revived(process: Process, server: Path) -> None:
    """Kills the server under a daemon, and lets the daemon end when it has gone on."""
    assert process.stderr is not None
    assert b"embedded PostgreSQL" in await process.stderr.readline()
    daemon = Daemon(process)
    await daemon.event("pulled")
    os.kill(pid_in(server), signal.SIGKILL)
    await daemon.event("failing")
    await daemon.event("recovered")
    assert await daemon.stopped(signal.SIGTERM) == 0
    assert pid_in(server) == 0
