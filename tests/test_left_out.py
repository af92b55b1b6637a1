"""What libraries load beside what is used of them stays out of a process, and says so to who uses it."""

import json
import subprocess
import sys

import pytest

LOADED = """
import json, sys
import sync.cli.once, sync.cli.run, sync.web.server
print(json.dumps([name for name, one in sys.modules.items() if getattr(one, "__spec__", None)]))
"""
UNUSED = ["sqlalchemy.orm", "sqlalchemy.ext.asyncio.session", "httpx._main", "pygments", "alembic"]


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    return set(json.loads(_end(LOADED).stdout))


@pytest.mark.parametrize("name", UNUSED)
def test_a_daemon_does_not_load_it(loaded: set[str], name: str) -> None:
    assert name not in loaded


def test_a_daemon_colours_no_traceback() -> None:
    assert "rich" not in json.loads(_end(LOADED.replace("sync.cli.once, ", "")).stdout)


def test_what_is_left_out_says_so() -> None:
    ended = _end("import sync; from sqlalchemy.ext.asyncio import AsyncSession; AsyncSession()")
    assert ended.stderr.splitlines()[-1] == "ImportError: sync/__init__.py leaves it out, since nothing used it"


def _end(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
