"""What a replica tells of its connections in a few rows is exact, whoever owns them next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from sync.connection.tenure import Tenure
from sync.core.api_errors import NotConnected
from sync.fleet import caught_up, ownership
from sync.fleet.assignment import Owned
from sync.fleet.caught_up import PART, CaughtUpBook
from sync.fleet.changes import remove
from sync.mirror import watermarks
from sync.mirror.watermarks import CaughtUp
from sync.postgres.engine import transaction
from sync.service import app
from sync.service.health import DECISIVE
from sync.service.heartbeats import Heartbeats
from sync.service.jobs import Jobs
from sync.service.looks import make_looks
from sync.service.samples import EVERY_S, Done, Sampler
from tests.support.mirror import Mirror

ME = UUID(int=7)
OF_ENVIRONMENT = frozenset({"environment"})
FRESH = "SELECT heartbeat_at, caught_up_as_of, caught_up_through FROM sync.connection_freshness WHERE name = :name"
VERSIONS = "SELECT ctid::text, xmin::text FROM sync.connections ORDER BY name"
THROUGH = datetime(2026, 11, 28, 12, tzinfo=UTC)


async def now(mirror: Mirror) -> datetime:
    (row,) = await mirror.rows("SELECT now() AS now")
    instant: datetime = row["now"]
    return instant


async def add(mirror: Mirror, *names: str, owner: UUID | None = ME) -> None:
    for name in names:
        await mirror.execute(
            "INSERT INTO sync.connections (name, state, owner) VALUES (:name, 'ok', :owner)", name=name, owner=owner
        )


async def tell(mirror: Mirror, book: CaughtUpBook, leaving: tuple[str, ...] = ()) -> None:
    page = book.page(leaving)
    async with transaction(mirror.connection.engine) as tx:
        await caught_up.write(tx, book.process, page)
    book.written(page)


async def told(mirror: Mirror, name: str) -> CaughtUp | None:
    (row,) = await mirror.rows(FRESH, name=name)
    as_of, through = row["caught_up_as_of"], row["caught_up_through"]
    return CaughtUp(as_of, through) if as_of else None


@pytest.mark.long
async def test_each_connection_is_told_of_to_the_microsecond(mirror: Mirror) -> None:
    names = [f"hotel {number}" for number in range(PART + 3)]
    await add(mirror, *names)
    began, book = await now(mirror), CaughtUpBook(ME)
    reached = {
        name: CaughtUp(began - timedelta(microseconds=number), THROUGH + timedelta(seconds=number))
        for number, name in enumerate(names)
    }
    for name in names:
        book.note(name, reached[name])
    await tell(mirror, book)
    assert {name: await told(mirror, name) for name in names} == reached
    assert len(await mirror.rows("SELECT FROM sync.caught_up")) == 2


async def test_a_beat_writes_no_row_of_a_connection(mirror: Mirror) -> None:
    await add(mirror, "lake", "hill")
    book = CaughtUpBook(ME)
    for name in ("lake", "hill"):
        book.note(name, CaughtUp(await now(mirror), THROUGH))
    await tell(mirror, book)
    before, later = await mirror.rows(VERSIONS), CaughtUp(await now(mirror), THROUGH + timedelta(minutes=1))
    book.note("lake", later)
    await tell(mirror, book)
    assert await mirror.rows(VERSIONS) == before
    assert await told(mirror, "lake") == later


async def test_a_single_cycle_that_is_later_counts(mirror: Mirror) -> None:
    await add(mirror, "lake")
    book = CaughtUpBook(ME)
    book.note("lake", CaughtUp(await now(mirror) - timedelta(minutes=1), THROUGH))
    await tell(mirror, book)
    await mirror.execute("UPDATE sync.connections SET caught_up_as_of = now(), caught_up_through = now()")
    await tell(mirror, book)
    found = await told(mirror, "lake")
    assert found
    assert found.as_of > await now(mirror) - timedelta(seconds=30)


async def test_what_was_noted_before_the_databases_clock_went_back_counts_no_more(mirror: Mirror) -> None:
    await add(mirror, "lake")
    await mirror.execute(
        "UPDATE sync.connections SET caught_up_as_of = now() + interval '1 hour', caught_up_through = now()"
    )
    book, reached = CaughtUpBook(ME), CaughtUp(await now(mirror), THROUGH)
    book.note("lake", reached)
    await tell(mirror, book)
    assert await told(mirror, "lake") == reached


async def test_an_api_whose_clock_was_set_back_is_believed_however_often_the_replica_beats(mirror: Mirror) -> None:
    await add(mirror, "lake")
    book, reached = CaughtUpBook(ME), CaughtUp(await now(mirror), THROUGH)
    book.note("lake", reached)
    await tell(mirror, book)
    back = THROUGH - timedelta(hours=1)
    async with transaction(mirror.connection.engine) as tx:
        await watermarks.clamp_to_now(tx, "lake", back)
    await tell(mirror, book)
    assert await told(mirror, "lake") == CaughtUp(reached.as_of, back)


@pytest.mark.parametrize("end", ["released", "paused", "dead", "removed"])
async def test_what_was_told_stays_whoever_has_the_connection_next(mirror: Mirror, end: str) -> None:
    await add(mirror, "lake")
    book, reached = CaughtUpBook(ME), CaughtUp(await now(mirror), THROUGH)
    book.note("lake", reached)
    await tell(mirror, book)
    (before,) = await mirror.rows(FRESH, name="lake")
    async with transaction(mirror.connection.engine) as tx:
        if end == "dead":
            await ownership.take(tx, uuid4(), [Owned("lake", OF_ENVIRONMENT, ME, 0)])
        elif end == "removed":
            await remove(tx, "lake")
    if end in {"released", "paused"}:
        await tell(mirror, book, leaving=("lake",))
    await mirror.execute("DELETE FROM sync.caught_up")
    (after,) = await mirror.rows(FRESH, name="lake")
    assert {**after, "heartbeat_at": None} == {**before, "heartbeat_at": None}
    assert after["heartbeat_at"] >= before["heartbeat_at"]


async def test_a_place_is_another_s_only_once_its_last_one_stands_in_its_own_row(mirror: Mirror) -> None:
    await add(mirror, "lake", "hill")
    book, reached = CaughtUpBook(ME), CaughtUp(await now(mirror), THROUGH)
    book.note("lake", reached)
    await tell(mirror, book)
    book.note("hill", None)
    assert book.page().places == {"lake": 0, "hill": 1}
    await tell(mirror, book, leaving=("lake",))
    book.note("wood", None)
    assert book.page().places == {"hill": 1, "wood": 0}
    assert (await told(mirror, "lake"), await told(mirror, "hill")) == (reached, None)


async def test_a_place_that_nobody_was_told_of_is_taken_from_whoever_has_it(mirror: Mirror) -> None:
    await add(mirror, "lake", "hill")
    await mirror.execute("UPDATE sync.connections SET place = 0 WHERE name = 'lake'")
    book = CaughtUpBook(ME)
    book.note("hill", CaughtUp(await now(mirror), THROUGH))
    await tell(mirror, book)
    assert await told(mirror, "lake") is None
    assert await told(mirror, "hill")


@pytest.mark.long
async def test_a_connection_that_its_replica_takes_anew_is_told_of_again(mirror: Mirror) -> None:
    await add(mirror, "lake")
    book, other = CaughtUpBook(ME), uuid4()
    book.note("lake", CaughtUp(await now(mirror), THROUGH))
    await tell(mirror, book)
    async with transaction(mirror.connection.engine) as tx:
        await ownership.take(tx, other, [Owned("lake", OF_ENVIRONMENT, ME, 0)])
        await ownership.take(tx, ME, [Owned("lake", OF_ENVIRONMENT, other, 1)])
    later = CaughtUp(await now(mirror), THROUGH + timedelta(minutes=1))
    book.note("lake", later)
    await tell(mirror, book)
    assert await told(mirror, "lake") == later


async def owned_jobs(mirror: Mirror, number: int) -> list[Jobs]:
    """The jobs of so many connections that one replica owns, which have discovered and pulled once."""
    looks, process = make_looks(mirror.connection.engine), mirror.connection.process
    all_ = []
    for name in (f"hotel {n}" for n in range(number)):
        await add(mirror, name, owner=process)
        connection = replace(mirror.connection, name=name, tenure=Tenure(process, 0))
        jobs = app.make_jobs(connection, mirror.settings(), looks)
        await jobs.discover()
        await jobs.pull()
        all_.append(jobs)
    return all_


@pytest.mark.long
async def test_a_beat_of_many_is_one_transaction_that_moves_the_position_on_once(mirror: Mirror) -> None:
    all_ = await owned_jobs(mirror, 10)
    incarnation = mirror.connection.incarnation
    heartbeats = Heartbeats(mirror.connection.engine, incarnation, CaughtUpBook(mirror.connection.process))
    assert await heartbeats.tell(all_)
    await heartbeats.tell(all_)
    before = await mirror.rows(VERSIONS)
    (position,) = await mirror.rows("SELECT position, pg_current_xact_id()::text::bigint AS xid FROM sync.incarnation")
    for jobs in all_:
        await jobs.pull()
    assert await heartbeats.tell(all_)
    (after,) = await mirror.rows("SELECT position, pg_current_xact_id()::text::bigint AS xid FROM sync.incarnation")
    assert await mirror.rows(VERSIONS) == before
    assert (after["position"] - position["position"], after["xid"] - position["xid"]) == (1, 2)
    assert incarnation.known
    assert incarnation.known.position == after["position"]
    assert all([await told(mirror, jobs.connection.name) for jobs in all_])


@pytest.mark.long
async def test_samples_of_many_are_noted_together_and_only_what_differs(mirror: Mirror) -> None:
    all_ = await owned_jobs(mirror, 5)
    heartbeats = Heartbeats(
        mirror.connection.engine, mirror.connection.incarnation, CaughtUpBook(mirror.connection.process)
    )
    now_s = 0.0
    for jobs in all_:
        jobs.sampler = Sampler(lambda: Done(0, 1, 0), lambda: now_s)
    all_[3].sampler = Sampler(lambda: Done(int(now_s), 1, 0), lambda: now_s)
    for _ in range(3):
        now_s += EVERY_S
        assert await heartbeats.tell(all_)
    rows = await mirror.rows("SELECT connection, count(*) AS count FROM sync.samples GROUP BY 1 ORDER BY 1")
    assert [row["count"] for row in rows] == [1, 1, 1, 3, 1]


async def test_an_outage_that_another_process_met_ends_with_the_next_beat_of_all(mirror: Mirror) -> None:
    all_ = await owned_jobs(mirror, 2)
    heartbeats = Heartbeats(
        mirror.connection.engine, mirror.connection.incarnation, CaughtUpBook(mirror.connection.process)
    )
    await heartbeats.tell(all_)
    other = app.make_jobs(all_[0].connection, mirror.settings())
    await other.health.note(DECISIVE, NotConnected("enterprises/getAll"))
    await heartbeats.tell(all_)
    rows = await mirror.rows("SELECT DISTINCT state, error FROM sync.connections WHERE name LIKE 'hotel %'")
    assert rows == [{"state": "ok", "error": None}]
    assert [row["is_open"] for row in await mirror.rows("SELECT ended_at IS NULL AS is_open FROM sync.outages")] == [
        False
    ]


async def test_a_connection_that_ends_is_told_of_once_more_by_its_own_row(mirror: Mirror) -> None:
    all_ = await owned_jobs(mirror, 2)
    heartbeats = Heartbeats(
        mirror.connection.engine, mirror.connection.incarnation, CaughtUpBook(mirror.connection.process)
    )
    await heartbeats.tell(all_)
    await all_[0].pull()
    heartbeats.end(all_[0])
    await heartbeats.tell(all_[1:])
    (row,) = await mirror.rows("SELECT place, caught_up_as_of FROM sync.connections WHERE name = 'hotel 0'")
    assert row["place"] is None
    assert row["caught_up_as_of"] > (await now(mirror)) - timedelta(seconds=30)


async def test_what_was_told_to_a_database_that_has_lost_commits_is_told_no_more(mirror: Mirror) -> None:
    (jobs,) = await owned_jobs(mirror, 1)
    incarnation = mirror.connection.incarnation
    heartbeats = Heartbeats(mirror.connection.engine, incarnation, CaughtUpBook(mirror.connection.process))
    for _ in range(2):
        await heartbeats.tell([jobs])
    assert await told(mirror, jobs.connection.name)
    incarnation.known = None  # as where its position was found to have gone back
    await heartbeats.tell([jobs])
    assert await told(mirror, jobs.connection.name) is None
