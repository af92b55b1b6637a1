"""The database takes nothing for hours, just when the API has made an add: the add is not repeated, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import AsyncConnection
from structlog.testing import capture_logs

from sync.demo.simulator import Operation, RequestRecord, Voucher
from sync.service.jobs import Jobs
from tests.outages.failing_database import STANDBY, FailingDatabase
from tests.outages.helpers import ALL_OVER, ended, pass_time, pushing, queue_add, round_of, statuses, told
from tests.support.flows import honest, numbered, watermarks
from tests.support.mirror import Mirror
from tests.support.outbox import active

MIRROR_ALONE = ["mews.voucher_codes"]
EVERYTHING = [*MIRROR_ALONE, "mews.voucher_code_outbox", "sync.connections", "sync.attempts", "sync.runs"]
AN_HOUR = timedelta(hours=1)
HOURS = 3


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[FailingDatabase]:
    async with await AsyncConnection.connect(database_url, autocommit=True) as admin:
        yield FailingDatabase(admin)


WORDS = {
    "53100": "has no room left on its disk (53100); make room there",
    "53200": "is out of memory (53200); give it more",
    "53300": "takes no more connections (53300); end other sessions",
    "57P01": "ended the session (57P01); start it again",
    STANDBY: "can only be read (25006)",
}
"""The cause, and what to do."""


@pytest.mark.sampled
@pytest.mark.parametrize(("code", "tables"), [("53100", MIRROR_ALONE), *((code, EVERYTHING) for code in WORDS)])
async def test_an_add_that_could_not_be_noted_is_not_sent_again(
    mirror: Mirror, database: FailingDatabase, tmp_path: Path, code: str, tables: list[str]
) -> None:
    words = WORDS[code]
    # Whatever is sent twice is added twice, and shows.
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(20))
    is_full = asyncio.Event()

    async def on_answer(record: RequestRecord) -> None:
        if record.operation is Operation.ADD_CODES and not is_full.is_set():
            await database.refuse(code, tables)
            is_full.set()

    with capture_logs() as logs:
        async with pushing(mirror) as jobs:
            await round_of(mirror, jobs)
            before = await watermarks(mirror)
            mirror.simulator.on_answer = on_answer
            await queue_add(mirror, voucher, "A")
            jobs.outbox.wake.set()
            await is_full.wait()
            for hour in range(HOURS):
                mirror.world.add_codes(voucher.id, numbered(3, f"THEIRS-{hour}"))
                mirror.clock.advance(AN_HOUR)
                await database.pass_time(AN_HOUR)
                await round_of(mirror, jobs)
                assert set(await statuses(mirror)) <= {"sending", "uncertain"}
                assert (await watermarks(mirror), await honest(mirror)) == (before, [])
            assert all(words in str(error) for error in jobs.health.errors)
            if tables == MIRROR_ALONE or code == STANDBY:
                await it_is_told(mirror, tmp_path, words, can_write=tables == MIRROR_ALONE)
            await database.give_way()
            await it_is_made_once(mirror, jobs, voucher)
    it_was_logged_once(logs, words, code)


async def it_is_made_once(mirror: Mirror, jobs: Jobs, voucher: Voucher) -> None:
    """Now that the database takes everything again, the add is proved, and both sides are equal."""
    await round_of(mirror, jobs)
    await ended(mirror, jobs)
    await pass_time(mirror, ALL_OVER)
    await round_of(mirror, jobs)
    assert (await statuses(mirror), active(mirror)[voucher.id, "A"]) == (["done"], 1)
    assert len(mirror.requests(Operation.ADD_CODES)) == 1
    assert ((await mirror.compare()).is_equal, await honest(mirror), jobs.health.errors) == (True, [], [])


def it_was_logged_once(logs: Sequence[MutableMapping[str, Any]], words: str, code: str) -> None:
    """The log warns of nothing else."""
    (failing,) = [line for line in logs if line["log_level"] == "warning"]
    assert failing["event"] == "failing"
    # The first that a standby does is to end the sessions, and one of them may be in use.
    may_be_told = [words, WORDS["57P01"], "does not answer"] if code == STANDBY else [words]
    assert [one for one in may_be_told if one in failing["error"]], failing["error"]


async def it_is_told(mirror: Mirror, directory: Path, words: str, *, can_write: bool) -> None:
    """As far as the database permits: where nothing can be noted, the daemon's silence tells, and `check` finds out."""
    text, one, checked = await told(mirror, directory)
    if can_write:
        assert (text.code, words in one["error"]) == (1, True)
        assert "-> do what it names" in text.stdout
    else:
        assert "SILENT" in text.stdout
        assert (checked.code, words in checked.stdout) == (1, True)
        assert "-> do what it names" in checked.stdout
