"""What is written down of a token's calls: by one process at a time, without any clock's instant, for all to read."""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.connection import budget
from sync.connection.budget import BudgetLedger
from sync.connection.hotels import fingerprint
from sync.connection.tenure import Trust
from sync.connection.uptime import Uptime
from sync.core.errors import DatabaseUnavailable
from sync.fleet import replicas
from sync.fleet.assignment import Member
from sync.fleet.replicas import Replica
from sync.mews.ledger import Entry, Others
from sync.postgres.engine import in_transaction, make_engine, transaction
from sync.service import app
from tests.mews.helpers import StopWatch, read
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.pooler import needs_pgbouncer, pooled

TOKEN = fingerprint("https://api.example", ACCESS_TOKEN)
TIMES = """
SELECT count(*) FROM information_schema.columns
WHERE table_schema = 'sync' AND table_name IN ('budgets', 'reservations') AND data_type ~ 'time|date|interval'
"""
UPDATES = """
SELECT pg_stat_get_xact_tuples_updated(oid) + pg_stat_get_tuples_updated(oid),
       pg_stat_get_xact_tuples_hot_updated(oid) + pg_stat_get_tuples_hot_updated(oid)
FROM pg_class WHERE oid = 'sync.reservations'::regclass
"""
CALLS = "SELECT sum(reserved + cardinality(ages_ms)) FROM sync.reservations"
STANDING_STILL = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'
"""


class Process:
    """A process's ledger, and a clock of its own; `uptime`: its machine's; `seen` is what it last found of others."""

    def __init__(
        self,
        engine: AsyncEngine,
        token: bytes = TOKEN,
        *,
        trusted_s: float | None = None,
        uptime: Uptime | None = None,
        name: UUID | None = None,
    ) -> None:
        self.clock = StopWatch()
        self.seen = Others()
        self.name = name or uuid4()
        self._ledger = BudgetLedger(
            engine, token, good_for_s=20.0, longest_call_s=40.0, window_s=30.0, clock=self.clock, process=self.name,
            trust=None if trusted_s is None else Trust(lasts_s=trusted_s), uptime=lambda: uptime,
        )  # fmt: skip

    async def write(self, reserved: int = 0, ages_s: tuple[float, ...] = (), *, is_waiting: bool = False) -> Others:
        """Writes this, and returns what it found."""
        await self._ledger.write(self._decide(Entry(reserved, ages_s, is_waiting)))
        return self.seen

    def _decide(self, entry: Entry) -> Callable[[Others], Entry]:
        def decide(others: Others) -> Entry:
            self.seen = others
            return entry

        return decide


async def count(engine: AsyncEngine) -> int:
    async with transaction(engine) as tx:
        return int((await tx.execute(text("SELECT count(*) FROM sync.reservations"))).scalar_one())


@pytest.mark.long
async def test_a_process_that_is_stopped_while_it_writes_keeps_others_no_longer_than_a_moment(
    engine: AsyncEngine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "STANDSTILL_S", 1)

    def stopped(_others: Others) -> Entry:
        """Nothing of this process goes on until the database has ended its session."""
        with psycopg.connect(database_url, autocommit=True) as watching:
            while watching.execute(STANDING_STILL).fetchone() != (0,):
                watching.execute("SELECT pg_sleep(0.02)")
        return Entry(20, (), is_waiting=False)

    with pytest.raises(DatabaseUnavailable):
        await BudgetLedger(engine, TOKEN, good_for_s=20.0, longest_call_s=40.0, window_s=30.0).write(stopped)
    assert (await Process(engine).write(20)).taken == 0


async def test_what_others_have_reserved_is_taken_until_it_has_stood_still_for_long(engine: AsyncEngine) -> None:
    dead, heir = Process(engine), Process(engine)
    await dead.write(20, (29.0, 10.0))
    assert (await heir.write()).taken == 22
    heir.clock.now_s += 1.1
    assert (await heir.write()).taken == 21
    heir.clock.now_s += 19.0
    assert (await heir.write()).taken == 20
    heir.clock.now_s += 69.0
    assert (await heir.write()).taken == 20
    heir.clock.now_s += 1.0
    assert (await heir.write()).taken == 0
    assert await count(engine) == 1


async def test_of_one_that_shows_no_sign_of_life_less_is_waited_for_and_of_one_that_does_as_long_as_ever(
    engine: AsyncEngine,
) -> None:
    dead, alive, heir = Process(engine, trusted_s=5.0), Process(engine, trusted_s=5.0), Process(engine)

    async def beat(process: Process) -> None:
        await in_transaction(engine, partial(replicas.beat, replica=replica(process), me=member, holds_lock=False))

    def replica(process: Process) -> Replica:
        return Replica(process.name, "host", 1, "1", "0036", {})

    member = Member(dead.name, frozenset())
    for one in (dead, alive):
        await beat(one)
        await one.write(10)
    assert (await heir.write()).taken == 20
    for passed_s, taken in ((74.9, 20), (0.3, 10)):
        heir.clock.now_s += passed_s
        await beat(alive)
        assert (await heir.write()).taken == taken
    heir.clock.now_s += 75.2
    assert (await heir.write()).taken == 0


async def test_to_a_process_of_the_same_boot_it_is_as_old_as_it_is(engine: AsyncEngine) -> None:
    boot = uuid4()
    await Process(engine, uptime=Uptime(boot, 7_000)).write(20, (29.0, 10.0))
    for passed_s, taken in ((0.5, 22), (1.1, 21), (20.1, 20), (90.0, 20), (90.2, 0)):
        later = Process(engine, uptime=Uptime(boot, 7_000 + int(passed_s * 1000)))
        assert (await later.write()).taken == taken


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        (Uptime(uuid4(), 7_000), Uptime(uuid4(), 900_000)),
        (None, Uptime(uuid4(), 900_000)),
        (Uptime(uuid4(), 7_000), None),
        (Uptime(UUID(int=1), 900_000), Uptime(UUID(int=1), 7_000)),
    ],
    ids=["another boot", "not written", "not known here", "a machine that was put back"],
)
async def test_where_its_age_is_not_known_it_counts_from_when_it_was_first_seen(
    engine: AsyncEngine, written: Uptime | None, seen: Uptime | None
) -> None:
    await Process(engine, uptime=written).write(20, (29.0, 10.0))
    assert (await Process(engine, uptime=seen).write()).taken == 22


async def test_what_stands_counts_while_its_process_may_live_however_long_ago_it_was_written(
    engine: AsyncEngine,
) -> None:
    boot = uuid4()
    await Process(engine, trusted_s=5.0, uptime=Uptime(boot, 0)).write(20)
    later = Process(engine, uptime=Uptime(boot, 80_000))
    assert (await later.write()).taken == 20
    later.clock.now_s += 75.2
    assert (await later.write()).taken == 0


async def test_a_sign_of_life_begins_the_wait_anew(engine: AsyncEngine) -> None:
    alive, other = Process(engine), Process(engine)
    for _ in range(5):
        await alive.write(20)
        other.clock.now_s += 60.0
        assert (await other.write()).taken == 20


async def test_one_that_was_forgotten_and_writes_again_is_news(engine: AsyncEngine) -> None:
    stalled, other = Process(engine), Process(engine)
    await stalled.write(20)
    await other.write()
    other.clock.now_s += 100.0
    assert (await other.write()).taken == 0
    await stalled.write(20)
    assert (await other.write()).taken == 20


async def test_what_a_process_has_called_by_a_ledger_before_counts_on(engine: AsyncEngine) -> None:
    paused = Process(engine)
    await paused.write(0, (20.0, 10.0))
    resumed = Process(engine, name=paused.name)
    assert (await resumed.write(3)).taken == 2
    assert (await resumed.write(3)).taken == 2, "and not what is its own"
    assert (await Process(engine).write()).taken == 5
    resumed.clock.now_s += 20.1
    assert (await resumed.write(3)).taken == 0


async def test_what_another_ledger_writes_in_its_name_is_news(engine: AsyncEngine) -> None:
    paused, other = Process(engine), Process(engine)
    for one, taken, passed_s in ((paused, 20, 60.0), (Process(engine, name=paused.name), 40, 31.0)):
        await one.write(20)
        assert (await other.write()).taken == taken
        other.clock.now_s += passed_s
    assert (await other.write()).taken == 40, "a read that began in time may be under way still"


async def test_what_was_handed_over_is_free_as_its_calls_grow_old(engine: AsyncEngine) -> None:
    before, after = Process(engine), Process(engine)
    await before.write(0, (25 * 86_400.0, 20.0, 10.0))  # of a call of weeks ago the column cannot hold the age
    found = await after.write()
    assert (found.taken, found.alive) == (2, 0)
    assert found.wait_s == pytest.approx(10.0, abs=0.1)
    after.clock.now_s += 10.1
    assert (await after.write()).taken == 1


async def test_who_waits_is_heard_while_it_asks_again(engine: AsyncEngine) -> None:
    hungry, other = Process(engine), Process(engine)
    await hungry.write(is_waiting=True)
    assert (await other.write()).waiting == 1
    other.clock.now_s += 6.0
    assert (await other.write()).waiting == 0
    await hungry.write(is_waiting=True)
    assert (await other.write()).waiting == 1


async def test_of_many_that_begin_at_once_each_sees_those_before_it(engine: AsyncEngine) -> None:
    processes = [Process(engine) for _ in range(8)]
    await asyncio.gather(*(one.write(10) for one in processes))
    assert sorted(one.seen.taken for one in processes) == [10 * place for place in range(8)]


async def test_another_token_has_a_budget_of_its_own(engine: AsyncEngine) -> None:
    await Process(engine).write(20)
    assert (await Process(engine, fingerprint("https://api.example", "another")).write()).taken == 0


async def test_no_instant_of_a_clock_that_can_be_stepped_is_written(engine: AsyncEngine) -> None:
    async with transaction(engine) as tx:
        assert (await tx.execute(text(TIMES))).scalar_one() == 0


@pytest.mark.long
async def test_writing_again_touches_no_index(engine: AsyncEngine) -> None:
    process = Process(engine)
    for number in range(200):
        await process.write(20, tuple(float(age) for age in range(number % 60)))
    async with transaction(engine) as tx:
        updated, hot = (await tx.execute(text(UPDATES))).one()
    assert updated >= 150
    assert hot == updated


@needs_pgbouncer
async def test_nothing_is_kept_in_a_session(database_url: str) -> None:
    with pooled(database_url, pool_size=2) as url:
        engine = make_engine(url)
        processes = [Process(engine) for _ in range(4)]
        for _ in range(5):
            await asyncio.gather(*(one.write(10) for one in processes))
        assert [one.seen.taken for one in processes] == [30] * 4
        await engine.dispose()


async def test_a_clean_stop_hands_over_exactly_what_was_spent(database_url: str) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened():
        async with mirror.connected(sync_rate_limit_requests=200):
            for _ in range(25):
                await read(mirror.connection.client)
        (left,) = await mirror.rows("SELECT reserved, cardinality(ages_ms) AS calls FROM sync.reservations")
        assert left == {"reserved": 0, "calls": 25}


async def test_connections_of_one_token_in_a_process_write_down_the_calls_of_each(database_url: str) -> None:
    mirror = Mirror(database_url)
    async with mirror.served(), app.open_workplace(mirror.settings(), mirror.way, mirror.stop) as place:
        given = app.credentials(place.settings)
        trust = Trust(until_s=math.inf, lasts_s=9.0)
        both = [app.make_connection(place, name, given, trust=trust) for name in ("lake", "hill")]
        for one in [both[0]] * 12 + [both[1]] * 5:
            await read(one.client)
        for one in both:
            await one.client.aclose()
        async with transaction(place.engine) as tx:
            assert (await tx.execute(text(CALLS))).scalar_one() == 17


async def test_who_calls_nobody_writes_nothing(mirror: Mirror) -> None:
    async with mirror.connected():
        await mirror.connection.client.rate_limiter.hand_over()
    assert await mirror.rows("SELECT * FROM sync.reservations") == []
