"""An asynchronous standby takes over, and has lost what its primary did last (invariant 14)."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from sync.demo.simulator import Operation, RequestRecord
from sync.postgres.migrations import migrate
from tests.cli.test_lost_commits import CANCEL, LET_GO, PUT_OFF, QUEUE, made, statuses
from tests.outages.helpers import until
from tests.support.clusters import Cluster, Clusters, clusters
from tests.support.daemon import running
from tests.support.mirror import Mirror

from .conftest import SHOWN_SOON, Cli

pytestmark = pytest.mark.long

VALUES = [f"NEW-{number:02}" for number in range(20)]
TAKEN_BACK, WANTED = VALUES[:5], VALUES[5:]
HIDDEN_S = 8.0
"""Within what is waited for by these settings, and longer than it takes another process to pull."""
POSITION = "SELECT position FROM sync.incarnation"
QUICK = {"SYNC_LEASE_S": "8", "SYNC_SETTLE_AFTER_S": "1", "SYNC_OVERLAP_S": "60"}


class Pair:
    """A primary and its standby, under one address."""

    def __init__(self, made: Clusters) -> None:
        self.primary = made.initialised("primary")
        self.primary.start()
        migrate(self.primary.url)
        self.standby: Cluster = self.primary.base_backup("standby", "-R")
        self.standby.start()
        self.url = made.url(self.primary, self.standby)

    async def cut(self) -> None:
        """The standby has all until now, and nothing of what follows."""
        await asyncio.to_thread(self.standby.follow, self.primary)
        await asyncio.to_thread(self.standby.cut_off)

    async def fail_over(self, mirror: Mirror) -> None:
        """The primary is gone, and the standby takes over."""
        await mirror.connection.engine.dispose()
        await asyncio.to_thread(self.primary.kill)
        await asyncio.to_thread(self.standby.promote)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with clusters() as made:
        yield Pair(made)


class Scene:
    """A hotel whose API takes a code twice, mirrored into the pair."""

    def __init__(self, pair: Pair, cli: Cli, mirror: Mirror) -> None:
        self.pair, self.mirror = pair, mirror
        self.voucher = mirror.add_voucher()
        self._cli = cli

    async def run(self, *words: str, **settings: str) -> int:
        """A command's exit code."""
        ended = await self._cli(*words, settings=self.mirror.environment | QUICK | settings)
        return ended.code

    async def queue(self, values: list[str]) -> None:
        await self.mirror.execute(QUEUE, voucher=self.voucher.id, values=values)

    def at_add(self, act: Callable[[], Awaitable[None]]) -> None:
        """Acts once the API has made what the first add asks for, before it answers."""

        async def on_answer(record: RequestRecord) -> None:
            if record.operation is Operation.ADD_CODES:
                self.mirror.simulator.on_answer = None
                await act()

        self.mirror.simulator.on_answer = on_answer

    async def reconcile(self, rest: str = "--release") -> None:
        """What waits is adopted, and the rest of it sent, or taken back."""
        assert await self.run("adopt", rest, **SHOWN_SOON) == 0
        assert await self.run("once") == 0
        assert (await self.mirror.compare()).is_equal


async def begun(pair: Pair, cli: Cli, mirror: Mirror) -> Scene:
    """What each test begins with: everything mirrored, and twenty changes queued."""
    mirror.simulator.behaviour.allow_duplicates = True
    scene = Scene(pair, cli, mirror)
    assert await scene.run("once") == 0
    return scene


async def test_without_loss_it_goes_on_and_nobody_is_asked(pair: Pair, cli: Cli) -> None:
    mirror = Mirror(pair.url)
    async with mirror.opened():
        scene = await begun(pair, cli, mirror)
        await scene.queue(VALUES)
        await pair.cut()
        await pair.fail_over(mirror)
        assert await scene.run("once") == 0
        assert (await statuses(mirror), made(mirror)) == ({"done": len(VALUES)}, Counter(VALUES))


async def test_what_was_queued_and_made_and_lost_is_mirrored(pair: Pair, cli: Cli) -> None:
    mirror = Mirror(pair.url)
    async with mirror.opened():
        scene = await begun(pair, cli, mirror)
        await pair.cut()
        await scene.queue(VALUES)
        assert await scene.run("once") == 0
        await pair.fail_over(mirror)
        await scene.run("once")
        assert (await statuses(mirror), made(mirror)) == (Counter(), Counter(VALUES))
        await scene.reconcile()


async def test_what_was_taken_back_before_a_claim_that_was_lost_is_not_made(pair: Pair, cli: Cli) -> None:
    mirror = Mirror(pair.url)
    async with mirror.opened():
        scene = await begun(pair, cli, mirror)
        await scene.queue(VALUES)
        await pair.cut()
        await mirror.execute(CANCEL, values=TAKEN_BACK)
        assert await scene.run("once") == 0
        await pair.fail_over(mirror)
        await scene.run("once")
        assert (await statuses(mirror), made(mirror)) == ({"held": len(VALUES)}, Counter(WANTED))
        await scene.reconcile("--cancel")
        ended = {"done": len(WANTED), "cancelled": len(TAKEN_BACK)}
        assert (await statuses(mirror), made(mirror)) == (ended, Counter(WANTED))


async def test_what_was_taken_back_before_a_heartbeat_that_was_lost_is_not_made(
    pair: Pair, cli: Cli, tmp_path: Path
) -> None:
    """Nothing was sent since, so only the heartbeat tells that commits are lost."""
    mirror = Mirror(pair.url)
    async with mirror.opened():
        scene = await begun(pair, cli, mirror)
        async with running(mirror, tmp_path, **QUICK) as daemon:
            await daemon.event("working")
            await mirror.execute(PUT_OFF, voucher=scene.voucher.id, values=VALUES)
            await pair.cut()
            await mirror.execute(CANCEL, values=TAKEN_BACK)
            (before,) = await mirror.rows(POSITION)
            await until(mirror, f"({POSITION}) > {before['position'] + 1}")  # the first may have begun before it
            await pair.fail_over(mirror)
            await mirror.execute(LET_GO)
            await until(mirror, "NOT EXISTS (SELECT FROM mews.voucher_code_outbox WHERE status = 'pending')")
            assert await daemon.stopped(signal.SIGTERM) == 0
        assert (await statuses(mirror), made(mirror)) == ({"held": len(VALUES)}, Counter())
        await mirror.execute(CANCEL, values=TAKEN_BACK)
        await scene.reconcile()
        assert made(mirror) == Counter(WANTED)


async def test_what_another_host_has_sent_to_the_primary_is_waited_for(pair: Pair, cli: Cli, tmp_path: Path) -> None:
    """The witness of the host that takes over knows nothing of what was claimed on the one that is gone."""
    mirror = Mirror(pair.url)
    async with mirror.opened():
        scene = await begun(pair, cli, mirror)
        another = {"SYNC_STATE_DIR": str(tmp_path / "state")}
        assert await scene.run("once", **another) == 0
        await scene.queue(VALUES)
        await pair.cut()
        mirror.simulator.behaviour.hide_writes_for_s = HIDDEN_S
        await scene.run("once")
        await pair.fail_over(mirror)
        assert await scene.run("once", **another) == 0
        assert (await statuses(mirror), made(mirror)) == ({"done": len(VALUES)}, Counter(VALUES))


async def test_a_primary_that_dies_with_a_call_under_way_makes_nothing_twice(pair: Pair, cli: Cli) -> None:
    mirror = Mirror(pair.url)
    async with mirror.opened():
        scene = await begun(pair, cli, mirror)
        await scene.queue(VALUES)
        await pair.cut()
        await mirror.execute(CANCEL, values=TAKEN_BACK)
        scene.at_add(lambda: pair.fail_over(mirror))
        await scene.run("once")
        await scene.run("once")
        assert made(mirror) == Counter(WANTED)
        await scene.reconcile("--cancel")
        ended = {"done": len(WANTED), "cancelled": len(TAKEN_BACK)}
        assert (await statuses(mirror), made(mirror)) == (ended, Counter(WANTED))


async def test_a_claim_that_the_standby_has_without_its_answer_is_looked_up(pair: Pair, cli: Cli) -> None:
    mirror = Mirror(pair.url)
    async with mirror.opened():
        scene = await begun(pair, cli, mirror)
        await scene.queue(VALUES)
        scene.at_add(pair.cut)
        assert await scene.run("once") == 0
        await pair.fail_over(mirror)
        assert await statuses(mirror) == {"sending": len(VALUES)}
        await scene.run("once")
        await scene.reconcile()
        assert (await statuses(mirror), made(mirror)) == ({"done": len(VALUES)}, Counter(VALUES))
