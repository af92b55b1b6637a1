"""The same for every test of the embedded server, whatever the umask and wherever the checkout lies."""

import os
import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from sync.postgres.embedded import embedded_postgres
from sync.postgres.embedded.directories import closed_to_others
from tests.postgres.embedded.helpers import PACKAGE, QUICK, copy_wheel, is_up, open_directory


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """What a test makes for another user is open to that one; tests of a umask set their own."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True, scope="package")
def programs_for_all() -> Iterator[None]:
    """Programs that any user can run. A closed checkout's would have to be copied to wherever a test's server lies."""
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    if closed_to_others(Path(spec.origin).parent) is None:
        yield
        return
    with open_directory() as site:
        copy_wheel(site)
        sys.path.insert(0, str(site))
        invalidate_caches()
        yield
        sys.path.remove(str(site))


@pytest.fixture(scope="package")
def initialised() -> Iterator[Path]:
    """A directory whose server was started once and stopped again, with a row in its database."""
    with open_directory() as path:
        with embedded_postgres(path, options=QUICK) as url, psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE things AS SELECT 1 AS number")
            connection.execute("ALTER SYSTEM SET fsync = off")
        yield path


@pytest.fixture
def directory(initialised: Path) -> Iterator[Path]:
    """The same, where nobody is left at the end."""
    yield initialised
    assert not is_up(initialised)


@pytest.fixture
def empty() -> Iterator[Path]:
    """A directory without a database."""
    with open_directory() as path:
        yield path
        assert not is_up(path)
