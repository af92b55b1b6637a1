"""Help is there at once: nothing is imported for it that only the work needs."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.support.process import end

IMPORTED_BY_HELP = """
import json, sys
from sync.cli import main
sys.argv = ["voucher-sync", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as ended:
    print(json.dumps([ended.code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
HEAVY = {
    "aiohttp",
    "alembic",
    "apscheduler",
    "asyncio",
    "httpx",
    "jinja2",
    "msgspec",
    "prometheus_client",
    "psutil",
    "psycopg",
    "pydantic",
    "rich",
    "sqlalchemy",
    "structlog",
}
"""Together they take most of a second."""


@pytest.mark.parametrize(
    "words",
    [["--help"], ["once", "-h"], ["check", "--help"], ["outbox", "--help"], ["outbox", "import", "--help"], ["onec"]],
    ids=" ".join,
)
async def test_help_waits_for_no_library(words: list[str], tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", IMPORTED_BY_HELP, json.dumps(words),
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    ended = await end(process)
    code, imported = json.loads(ended.stdout.splitlines()[-1])
    assert code == (2 if words == ["onec"] else 0)
    assert "click" in imported
    assert HEAVY.isdisjoint(imported)
