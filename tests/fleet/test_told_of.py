"""What a replica tells of its connections, when a database has lost commits, before a start, and beside a slow disk."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest

from sync.connection.incarnation import Incarnation
from sync.core.errors import IncarnationChanged
from sync.fleet.caught_up import CaughtUpBook
from sync.fleet.membership import Membership
from sync.service import app
from sync.service.heartbeats import Heartbeats
from tests.fleet.test_caught_up import FRESH, now, owned_jobs, told
from tests.support.mirror import Mirror


async def found_anew(incarnation: Incarnation, mirror: Mirror) -> None:
    """As where the position was found to have gone back, and the database was looked at since."""
    incarnation.known = None
    await incarnation.check(mirror.connection.engine)


async def test_a_pull_that_began_before_the_database_lost_commits_tells_of_nothing(mirror: Mirror) -> None:
    (jobs,) = await owned_jobs(mirror, 1)
    incarnation = mirror.connection.incarnation
    heartbeats = Heartbeats(mirror.connection.engine, incarnation, CaughtUpBook(mirror.connection.process))
    await found_anew(incarnation, mirror)
    await heartbeats.tell([jobs])
    assert await told(mirror, jobs.connection.name) is None
    await jobs.pull()
    await heartbeats.tell([jobs])
    assert await told(mirror, jobs.connection.name)


@pytest.mark.parametrize("is_lost", [True, False])
async def test_what_is_given_back_tells_of_nothing_that_the_database_has_lost(mirror: Mirror, is_lost: bool) -> None:
    (jobs,) = await owned_jobs(mirror, 1)
    engine, incarnation, name = mirror.connection.engine, mirror.connection.incarnation, jobs.connection.name
    replica = app.describe_replica(mirror.connection.process, mirror.settings())
    member = Membership(engine, replica, ["stored"], incarnation)
    heartbeats = Heartbeats(engine, incarnation, member.book)
    await heartbeats.tell([jobs])
    if is_lost:
        await mirror.execute("UPDATE sync.connections SET caught_up_as_of = NULL, caught_up_through = NULL")
        await mirror.execute("DELETE FROM sync.caught_up")
        await mirror.execute("UPDATE sync.incarnation SET position = position - 1")
        with pytest.raises(IncarnationChanged):
            await member.release([name])
    await member.release([name])
    assert (await told(mirror, name) is None) is is_lost
    assert await mirror.rows("SELECT owner FROM sync.connections WHERE name = :name", name=name) == [{"owner": None}]


async def test_who_waits_for_its_start_is_told_of_once_it_has_looked_when_others_were_last_at_work(
    mirror: Mirror,
) -> None:
    begun, waiting = await owned_jobs(mirror, 2)
    await mirror.execute("UPDATE sync.connections SET heartbeat_at = now() + interval '1 hour'")
    heartbeats = Heartbeats(
        mirror.connection.engine, mirror.connection.incarnation, CaughtUpBook(mirror.connection.process)
    )
    await heartbeats.tell([begun], [waiting])
    (row,) = await mirror.rows(FRESH, name=waiting.connection.name)
    assert abs(row["heartbeat_at"] - await now(mirror)) < timedelta(minutes=1)
    assert waiting.outbox.watch.database_clock.went_back > timedelta(minutes=59)


def _read_slowly(directory: Path) -> tuple[Path, str]:
    """Has the only file be read no sooner than it is written to; its path and what it said."""
    (path,) = directory.glob("witness-*")
    content = path.read_text()
    path.unlink()
    os.mkfifo(path)
    return path, content


async def test_no_transaction_waits_for_a_disk_that_does_not_answer(mirror: Mirror, tmp_path: Path) -> None:
    """A witness that cannot be read for now would keep all others from moving the position on."""
    mirror.connection.incarnation.witness.directory = tmp_path
    (jobs,) = await owned_jobs(mirror, 1)
    incarnation = mirror.connection.incarnation
    await found_anew(incarnation, mirror)
    witness, content = _read_slowly(tmp_path)
    heartbeats = Heartbeats(mirror.connection.engine, incarnation, CaughtUpBook(mirror.connection.process))
    beating = asyncio.create_task(heartbeats.tell([jobs]))
    with await asyncio.to_thread(witness.open, "w") as answer:  # as soon as somebody reads
        waiting = await mirror.rows(
            "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        witness.unlink()
        answer.write(content)
    assert await beating
    assert waiting == []
