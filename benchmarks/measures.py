"""One command, measured from outside, and whether its mirror is right."""

import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from contenders import Contender
from database import Database
from worlds import ACCESS_TOKEN, CLIENT_TOKEN

from sync.demo.simulator import RateLimit, Simulator, World

MEASURED = str(Path(__file__).with_name("measured.py"))
COLUMNS = (
    "id", "voucher_id", "value", "validity_start_utc", "validity_end_utc", "created_utc", "updated_utc", "is_active",
)  # fmt: skip
TIMEOUT_S = 3600
MOST_OUTPUT = 400
"""Characters of what a command that failed has said last."""


class CommandFailed(Exception):
    """A command ended with another code than 0; the message is what it said last."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a command runs: server, name of its database, the API and its budget, a directory for what it keeps."""

    database: Database
    name: str
    simulator: Simulator
    address: str
    limit: RateLimit
    directory: Path

    def environment(self) -> dict[str, str]:
        """All that a contender is told."""
        own = ("PATH", "HOME", "LANG", "TMPDIR")
        return {name: os.environ[name] for name in own if name in os.environ} | {
            "DATABASE_URL": self.database.url(self.name),
            "MEWS_PLATFORM_ADDRESS": self.address,
            "MEWS_CLIENT_TOKEN": CLIENT_TOKEN,
            "MEWS_ACCESS_TOKEN": ACCESS_TOKEN,
            "SYNC_RATE_LIMIT_REQUESTS": str(self.limit.requests),
            "SYNC_PLATFORM_CALLS_IN_FLIGHT": "1000000",
            "SYNC_PLATFORM_CALLS_PER_S": "1000000",
            "SYNC_STATE_DIR": str(self.directory / "state"),
            "SYNC_LOG_LEVEL": "warning",
            "DLT_DATA_DIR": str(self.directory),
            "RUNTIME__LOG_LEVEL": "ERROR",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
        }


async def measure(around: Surroundings, command: tuple[str, ...]) -> dict[str, float]:
    """Runs a command to its end: what it took, client and server, and what it asked of the API."""
    around.database.come_to_rest()
    asked = len(around.simulator.requests)
    cpu_s, wal = around.database.cpu_s(), around.database.wal_bytes()
    figures = await _run(around, command)
    new = list(around.simulator.requests)[asked:]
    return figures | {
        "db_cpu_s": around.database.cpu_s() - cpu_s,
        "wal_mb": (around.database.wal_bytes() - wal) / 2**20,
        "requests": len(new),
        "refused": sum(record.status == 429 for record in new),
    }


async def _run(around: Surroundings, command: tuple[str, ...]) -> dict[str, float]:
    with tempfile.NamedTemporaryFile(prefix="voucher-sync-bench-") as took:
        process = await asyncio.create_subprocess_exec(
            sys.executable, MEASURED, took.name, *command,
            env=around.environment(), cwd=around.directory, stdout=PIPE, stderr=STDOUT,
        )  # fmt: skip
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
        if process.returncode:
            raise CommandFailed(output.decode(errors="replace").strip()[-MOST_OUTPUT:])
        figures: dict[str, float] = json.load(took)
        return figures


def verdict(around: Surroundings, contender: Contender, world: World) -> str:
    """`equal`, or by how much the mirror is wrong; empty for a floor that keeps nothing."""
    if contender.rows is None:
        return ""
    try:
        return _compare(around, contender.rows, world)
    except psycopg.Error as error:
        return f"unreadable, {str(error).partition(chr(10))[0]}"


def _compare(around: Surroundings, query: str, world: World) -> str:
    there: Mapping[Any, Any] = world.codes_visible_to(ACCESS_TOKEN)
    seen, doubled, wrong = set[Any](), 0, 0
    with around.database.session(around.name) as session, session.cursor("rows", binary=True, withhold=True) as rows:
        rows.itersize = 10_000
        for row in rows.execute(query.encode()):
            if row[0] in seen:
                doubled += 1
                continue
            seen.add(row[0])
            code = there.get(row[0])
            wrong += code is None or row != tuple(getattr(code, name) for name in COLUMNS)
    missing = len(there) - len(there.keys() & seen)
    faults = {"differing": wrong, "missing": missing, "doubled": doubled}
    return ", ".join(f"{count:,} {what}" for what, count in faults.items() if count) or "equal"
