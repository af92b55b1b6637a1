"""A command is at work soon: nothing is imported for it that only others need, and nothing is looked through twice."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.outbox.helpers import add_row, write
from tests.support.loaded import LoadedCommands
from tests.support.mirror import Mirror
from tests.support.process import end

from .conftest import Cli

RUN = """
import gc, json, sys
had = set(sys.modules)  # as those of a measurement of coverage, which begins before
from sync.cli import main
sys.argv = ["voucher-sync", *json.loads(sys.argv[1])]
try:
    main()
except SystemExit as ended:
    print(json.dumps([ended.code, sorted(sys.modules.keys() - had), gc.isenabled(), gc.get_freeze_count()]))
"""
VOUCHER = "8a3f8a6e-0a0c-4f5c-9a57-3a1d7e2f9b10"
COMMANDS = (
    "once",
    "status",
    "check",
    "audit",
    "migrate",
    "roles",
    "vouchers",
    "erase A",
    "adopt",
    "completion bash",
    "connections list",
    "connections key",
    "connections pause default",
    "connections resume default",
    f"outbox add --voucher {VOUCHER} A",
    f"outbox delete --voucher {VOUCHER} A",
    f"outbox import codes.csv --voucher {VOUCHER}",
    f"outbox generate --voucher {VOUCHER} --count 2 --pattern A-######",
    "outbox list",
    "outbox show 1",
    "outbox reasons",
    "outbox export",
    "outbox retry --all",
    "outbox cancel --all",
    "outbox release --all",
)
"""Each command that ends by itself, but for those that need a stored token or a mirrored code.

`loaded.py` shows nowhere else what one of them forgot to import.
"""
NOT_NEEDED = {"aiohttp", "alembic", "apscheduler", "jinja2", "mako", "prometheus_client", "pygments"}
"""What only migrations and the daemon need, for its schedule and for what it tells over HTTP, or nothing at all."""
MOST_MODULES = 1000
"""At the end of `once`, which needs the most of them: some 930, of which SQLAlchemy has 150."""
FEWEST_FROZEN = 100_000
"""Objects that the libraries have made."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended; `frozen` counts the objects that the garbage collector passes over."""

    code: int
    modules: set[str]
    collects: bool
    frozen: int


async def done(*words: str, settings: Mapping[str, str], directory: Path) -> Done:
    """Runs a command to its end, in a process that tells of itself then."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, json.dumps(words),
        env={**os.environ, **settings}, cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    ended = await end(process)
    code, modules, collects, frozen = json.loads(ended.stdout.splitlines()[-1])
    return Done(code, set(modules), collects, frozen)


@pytest.mark.sampled
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_migrated_database_is_worked_on_without_what_others_need(
    mirror: Mirror, tmp_path: Path, command: str
) -> None:
    write(tmp_path / "codes.csv", "IMPORTED\n")
    assert add_row(mirror.database_url, "TO-BE-SHOWN", "failed") == 1
    async with mirror.served():
        async with mirror.connected():
            await mirror.discover()  # else there is nothing to audit
        ended = await done(*command.split(), settings=mirror.environment, directory=tmp_path)
    assert ended.code in {0, None}
    assert NOT_NEEDED.isdisjoint(name.partition(".")[0] for name in ended.modules)
    assert len(ended.modules) <= MOST_MODULES


@pytest.mark.long
async def test_what_a_command_has_loaded_is_never_looked_through_for_garbage(mirror: Mirror, tmp_path: Path) -> None:
    ended = await done("status", settings=mirror.environment, directory=tmp_path)
    assert ended.collects
    assert ended.frozen >= FEWEST_FROZEN


@pytest.mark.long
async def test_an_older_schema_needs_no_alembic_to_be_refused(empty_database_url: str, tmp_path: Path) -> None:
    ended = await done("status", settings={"DATABASE_URL": empty_database_url}, directory=tmp_path)
    assert (ended.code, NOT_NEEDED & ended.modules) == (1, set())


@pytest.mark.long
@pytest.mark.parametrize(("variable", "forks"), [("SYNC_LEASE_S", 1), ("PYTHONIOENCODING", 0)])
async def test_a_test_s_command_is_forked_unless_its_surroundings_are_other_ones(
    cli: Cli, loaded: LoadedCommands, variable: str, forks: int
) -> None:
    before = loaded.forks
    ended = await cli("--version", settings={variable: "utf-8"})
    assert (ended.code, loaded.forks - before) == (0, forks)
