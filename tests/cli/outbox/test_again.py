"""What queues many changes in one transaction gives way to others, and begins anew: all is queued, and once."""

import asyncio
import csv
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import VOUCHER, query, run_fed, values, write
from tests.support.postgres import database_of
from tests.support.process import Ended

STEPS_ON_TOES = """
CREATE TABLE public.things AS SELECT id, 0 AS changes FROM generate_series(1, 2) AS id;
CREATE FUNCTION public.step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE public.things SET changes = changes + 1 WHERE id = 1;
  PERFORM pg_advisory_xact_lock(7);
  UPDATE public.things SET changes = changes + 1 WHERE id = 2;
  RETURN NEW;
END $$;
CREATE TRIGGER step BEFORE INSERT ON mews.voucher_code_outbox FOR EACH ROW EXECUTE FUNCTION public.step();
"""
"""A user's trigger that locks one row after the other, with a pause between the two at the tests' will."""
CODES = ["A", "B", "C"]
WAITING = (
    "SELECT count(*), pg_sleep(0.02) FROM pg_stat_activity WHERE datname = current_database() "
    "AND wait_event_type = 'Lock' AND (%s::text IS NULL OR wait_event = %s)"
)


async def until_waiting(url: str, sessions: int, task: "asyncio.Future[Ended]", event: str | None = None) -> None:
    """Waits until so many sessions wait for a lock."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as onlooker:
        while not task.done():
            found = await (await onlooker.execute(WAITING, [event, event])).fetchone()
            if found and found[0] == sessions:
                return
    raise AssertionError(f"it ended without waiting: {task.result()}")


@asynccontextmanager
async def others(url: str) -> AsyncIterator[tuple["psycopg.AsyncConnection[object]", ...]]:
    """Two users: one that locks the second row, and one that keeps the trigger waiting between the two."""
    query(url, STEPS_ON_TOES)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {database_of(url)} SET deadlock_timeout = '20ms'")
    async with (
        await psycopg.AsyncConnection.connect(url) as user,
        await psycopg.AsyncConnection.connect(url) as pause,
    ):
        await user.execute("SET deadlock_timeout = '1h'")
        await user.execute("UPDATE public.things SET changes = 0 WHERE id = 2")
        await pause.execute("SELECT pg_advisory_xact_lock(7)")
        yield user, pause


async def ended_after_a_deadlock(url: str, call: Awaitable[Ended]) -> Ended:
    """How a call ends that has closed a circle of waiting with a user, and so is the one that is undone."""
    async with others(url) as (user, pause):
        ours = asyncio.ensure_future(call)
        await until_waiting(url, 1, ours, "advisory")
        theirs = asyncio.create_task(user.execute("UPDATE public.things SET changes = 0 WHERE id = 1"))
        await until_waiting(url, 2, ours)
        await pause.rollback()
        await theirs
        await user.commit()
        return await ours


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    """A file of codes."""
    write(tmp_path / "codes.csv", "\n".join(["value", *CODES]))
    return tmp_path / "codes.csv"


async def test_an_import_is_done_again_after_a_deadlock(cli: Cli, database_url: str, codes: Path) -> None:
    call = cli("outbox", "import", str(codes), "--voucher", VOUCHER, settings={"DATABASE_URL": database_url})
    ended = await ended_after_a_deadlock(database_url, call)
    assert (ended.code, ended.stdout) == (0, "3 codes queued.\n")
    assert values(database_url) == CODES
    assert query(database_url, "SELECT DISTINCT changes FROM public.things") == [(3,)]


async def test_codes_are_generated_again_after_a_deadlock(cli: Cli, database_url: str, tmp_path: Path) -> None:
    output = tmp_path / "made.csv"
    asked = ("--voucher", VOUCHER, "--count", "3", "--pattern", "X-####-????", "--output", str(output))
    call = cli("outbox", "generate", *asked, settings={"DATABASE_URL": database_url})
    ended = await ended_after_a_deadlock(database_url, call)
    assert ended.code == 0
    assert [row["value"] for row in csv.DictReader(output.read_text().splitlines())] == values(database_url)
    assert query(database_url, "SELECT DISTINCT changes FROM public.things") == [(3,)]


@pytest.mark.long
async def test_a_pipe_cannot_be_read_again_and_nothing_is_queued(database_url: str, tmp_path: Path) -> None:
    asked = ("outbox", "import", "-", "--voucher", VOUCHER)
    call = run_fed(*asked, stdin="\n".join(CODES).encode(), url=database_url, directory=tmp_path)
    ended = await ended_after_a_deadlock(database_url, call)
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.startswith("Error: nothing is queued: the database gave way to somebody else")
    assert values(database_url) == []
