"""A standby takes over in the middle of a migration, and has what was done of it until then or less (invariant 14)."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from sync.core.errors import DatabaseError
from sync.postgres.migrations import migrate, revisions
from tests.cli.conftest import SHOWN_SOON
from tests.migrations.helpers import head, query
from tests.migrations.old_database import OLDEST, kept, make_old, schema_of, work_as_before
from tests.support.clusters import Cluster, Clusters, clusters
from tests.support.loaded import run
from tests.support.mirror import Mirror
from tests.support.outbox import active
from tests.support.proxy import Proxy

pytestmark = pytest.mark.long

QUEUE = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
VALUES ('add', '{0}', 'NEW-1'), ('add', '{0}', 'NEW-2')
"""
BUILT_HALF = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"


class Pair:
    """A primary of the oldest revision, with rows, and a standby that follows it until it is cut off."""

    def __init__(self, made: Clusters) -> None:
        self.primary: Cluster = made.initialised("primary")
        self.primary.start()
        make_old(self.primary.url)
        self.before = kept(self.primary.url)
        self.standby = self.primary.base_backup("standby", "-R")
        self.standby.start()

    def part(self) -> None:
        """The standby has all until now, and nothing of what follows."""
        self.standby.follow(self.primary)
        self.standby.cut_off()

    def fail_over(self) -> None:
        """The primary is gone, and the standby takes over."""
        self.primary.kill()
        self.standby.promote()


@pytest.fixture
def made_here() -> Iterator[Clusters]:
    with clusters() as made:
        yield made


@pytest.fixture
def pair(made_here: Clusters) -> Pair:
    return Pair(made_here)


@pytest.fixture
def schema(made_here: Clusters) -> str:
    """What an undisturbed migration ends with."""
    cluster = made_here.initialised("undisturbed")
    cluster.start()
    make_old(cluster.url)
    migrate(cluster.url)
    told = schema_of(cluster.url)
    cluster.stop()
    return told


def ends_well(pair: Pair, schema: str) -> None:
    """On the promoted standby the daemon of before works on, and the next migration ends as an undisturbed one does."""
    url = pair.standby.url
    work_as_before(url)
    assert kept(url) == pair.before
    migrate(url)
    assert (revisions(url), schema_of(url) == schema, kept(url) == pair.before) == ((head(), head()), True, True)


def test_a_migration_that_was_committed_and_lost_is_done_again(pair: Pair, schema: str) -> None:
    pair.part()
    assert migrate(pair.primary.url) == (OLDEST, head())
    pair.fail_over()
    assert revisions(pair.standby.url) == (OLDEST, head())
    ends_well(pair, schema)


@pytest.mark.parametrize("commits", [1, 3, 6])
async def test_one_that_was_under_way_is_taken_up_on_the_standby(pair: Pair, schema: str, commits: int) -> None:
    ended = 0

    async def on_commit() -> None:
        nonlocal ended
        ended += 1
        if ended == commits:
            await asyncio.to_thread(pair.part)
        elif ended == commits + 1:
            await asyncio.to_thread(pair.primary.kill)

    async with Proxy(pair.primary.url).served() as proxy:
        proxy.on_commit = on_commit
        with pytest.raises(DatabaseError):
            await asyncio.to_thread(migrate, proxy.url)
    assert ended == commits + 1
    await asyncio.to_thread(pair.fail_over)
    ends_well(pair, schema)


def test_an_index_that_was_half_built_is_made_anew(pair: Pair, schema: str) -> None:
    url = pair.primary.url
    with closing(psycopg.connect(url)) as reader, ThreadPoolExecutor(1) as beside:
        # A build waits for whoever may still see the table as it was before it.
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        migrating = beside.submit(migrate, url)
        while query(url, BUILT_HALF) == [(0,)]:
            assert not migrating.done()
            query(url, "SELECT pg_sleep(0.02)")
        pair.part()
        pair.fail_over()
        with pytest.raises(DatabaseError):
            migrating.result()
    assert query(pair.standby.url, BUILT_HALF) == [(1,)]
    ends_well(pair, schema)
    assert query(pair.standby.url, BUILT_HALF) == [(0,)]


async def test_changes_queued_before_are_made_once_after_it(pair: Pair, tmp_path: Path) -> None:
    mirror = Mirror(pair.standby.url)
    voucher = mirror.add_voucher()
    pair.primary.execute(QUEUE.format(voucher.id))
    pair.part()
    migrate(pair.primary.url)
    pair.fail_over()
    async with mirror.opened():
        migrated = await run("migrate", settings=mirror.environment, directory=tmp_path)
        assert migrated.code == 0, migrated.stderr
        await run(
            "once", settings=mirror.environment | SHOWN_SOON, directory=tmp_path
        )  # the rows of old it can only fail
        statuses = await mirror.rows("SELECT status FROM mews.voucher_code_outbox WHERE value LIKE 'NEW-%'")
        made = Counter({value: count for (_, value), count in active(mirror).items()})
    assert ([row["status"] for row in statuses], made) == (["done", "done"], Counter(["NEW-1", "NEW-2"]))
