"""Rows of the outbox in every state, and queries."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from tests.support.process import OWN_PREFIXES, Ended

VOUCHER = "00000000-0000-0000-0000-0000000000a1"
OTHER = "00000000-0000-0000-0000-0000000000a2"
READING: LiteralString = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND starts_with(query, 'COPY pg_temp')"
)
"""Finds a row while an import reads its file."""

_CLAIMED = {"attempt_id": VOUCHER, "connection": "default"}
_FINISHED = {"finished_at": "2026-01-01T00:00Z"}
STATES: dict[str, dict[str, str]] = {
    "pending": {},
    "held": {"held_because": "too_many_deletes"},
    "sending": _CLAIMED,
    "uncertain": _CLAIMED,
    "done": _FINISHED | {"voucher_code_id": OTHER},
    "failed": _FINISHED | {"last_error": "no such rate", "request_id": "r-1"},
    "cancelled": _FINISHED,
}
_PATHS = {"uncertain": ["sending"], "done": ["sending"], "failed": ["sending"]}


def query(url: str, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
    """What a query finds."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def values(url: str) -> list[str]:
    """The codes that are queued, in their order."""
    return [row[0] for row in query(url, "SELECT value FROM mews.voucher_code_outbox ORDER BY id")]


def add_row(
    url: str, value: str, status: str = "pending", *, voucher: str = VOUCHER, note: str | None = None, **columns: str
) -> int:
    """An add that the daemon has brought into a state; its number."""
    with psycopg.connect(url) as connection:
        connection.execute("SET voucher_sync.daemon = 'on'")
        (row_id,) = connection.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, note) VALUES ('add', %s, %s, %s) "
            "RETURNING id",
            [voucher, value, note],
        ).fetchone() or (0,)
        for state in [*_PATHS.get(status, []), status]:
            assignments = sql.SQL(", ").join(
                sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(content))
                for name, content in ({"status": state} | STATES[state] | columns).items()
            )
            statement = sql.SQL("UPDATE mews.voucher_code_outbox SET {} WHERE id = {}")
            connection.execute(statement.format(assignments, sql.Literal(row_id)))
    return int(row_id)


def refuse_value(url: str, value: str) -> None:
    """Lets the database refuse values in which this is found, by a rule that nobody knows beforehand."""
    statement = sql.SQL("ALTER TABLE mews.voucher_code_outbox ADD CONSTRAINT house_rule CHECK (value !~ {})")
    with psycopg.connect(url) as connection:
        connection.execute(statement.format(sql.Literal(value)))


def write(path: Path, content: str | bytes) -> None:
    """A file, before the process starts that reads it."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def without_colours(shown: str) -> str:
    """What a terminal shows, without what moves and colours it."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


async def run_fed(
    *arguments: str, stdin: bytes, url: str, directory: Path, interrupt_in: LiteralString | None = None
) -> Ended:
    """Runs a command that reads its standard input, and interrupts it, before that ends, once the query finds a row."""
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(OWN_PREFIXES)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sync", *arguments,
        env={**others, "DATABASE_URL": url}, cwd=directory, stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    if interrupt_in is not None:
        assert process.stdin
        process.stdin.write(stdin)
        while not query(url, interrupt_in):
            assert process.returncode is None
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.stdin.close()
    stdout, stderr = await process.communicate(None if interrupt_in is not None else stdin)
    assert process.returncode is not None
    return Ended(process.returncode, stdout.decode(), stderr.decode())
