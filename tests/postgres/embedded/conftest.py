"""The same for every test of the embedded server, whatever the umask and wherever the checkout lies."""

import os
import sys
from collections.abc import Iterator
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

import pytest

from sync.postgres.embedded.directories import closed_to_others
from tests.postgres.embedded.helpers import PACKAGE, copy_wheel, open_directory


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
