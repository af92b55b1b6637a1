"""What a connection with nothing to do asks of the database, and that it misses nothing for that."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from sync.core.api_errors import NotConnected
from sync.core.errors import Unreconciled
from sync.demo.simulator import Close, Operation
from sync.outbox.claims import as_daemon
from sync.outbox.unfinished import load_unfinished
from sync.postgres.engine import transaction
from sync.service import app
from sync.service.at_work import Intervals
from sync.service.jobs import Jobs
from sync.service.looks import make_looks
from sync.service.schedule import Schedule
from tests.mews.helpers import fail
from tests.support.at_work import at_work
from tests.support.mirror import IMPATIENT, Mirror
from tests.support.statements import statements


async def poll(jobs: Jobs) -> bool:
    """One poll of everything; whether the outbox was woken."""
    jobs.outbox.wake.clear()
    await jobs.wake_outbox()
    await jobs.polls.find_earlier()
    await jobs.polls.look_up()
    return jobs.outbox.wake.is_set()


@pytest.fixture
async def jobs(mirror: Mirror) -> Jobs:
    """The jobs of a hotel with nothing to do, which have done it before."""
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    mirror.add_codes(mirror.add_voucher(), ["A", "B"])
    await jobs.discover()
    await jobs.pull()
    await jobs.outbox.push_all()
    await poll(jobs)
    return jobs


@pytest.mark.long
async def test_polls_of_many_quiet_outboxes_are_one_statement(mirror: Mirror, jobs: Jobs) -> None:
    looks = make_looks(mirror.connection.engine)
    all_ = [
        app.make_jobs(replace(mirror.connection, name=f"hotel {number}"), mirror.settings(), looks)
        for number in range(20)
    ]
    for one in all_:
        await one.pull()
        await poll(one)
    with statements(mirror.connection.shared_engine) as said:
        assert not any([await poll(one) for one in all_])
    assert len(said) <= 3  # and not one for each, even where a look takes next to no time


async def test_one_look_for_all_finds_whose_outbox_has_anything_to_do(mirror: Mirror, jobs: Jobs) -> None:
    looks = make_looks(mirror.connection.engine)
    other = app.make_jobs(replace(mirror.connection, name="other"), mirror.settings(), looks)
    await poll(other)
    assert [one.is_to_be_polled(await other.polls.look()) for one in (jobs, other)] == [False, False]
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', id, 'NEW' FROM mews.vouchers"
    )
    await other.health.note("pull", NotConnected("voucherCodes/getAll"))
    assert [one.is_to_be_polled(await other.polls.look()) for one in (jobs, other)] == [True, False]
    await other.health.note("push", Unreconciled("of 1 change it is not known"))
    assert other.is_to_be_polled(await other.polls.look())


async def test_while_the_platform_answers_nobody_no_outbox_is_polled_in_which_nothing_is_left(mirror: Mirror) -> None:
    mirror.add_voucher()
    await mirror.execute("INSERT INTO sync.connections SELECT unnest('{lake,hill,park,town}'::text[]), 'ok'")
    async with app.open_workplace(mirror.settings(), mirror.way, mirror.stop, IMPATIENT) as place:
        looks, given = make_looks(place.engine), app.credentials(place.settings)
        all_ = [
            app.make_jobs(app.make_connection(place, name, given), place.settings, looks)
            for name in ("lake", "hill", "park", "town")
        ]
        for jobs in all_:
            await jobs.discover()
            await jobs.pull()
        mirror.simulator.faults.by_chance({Close(): 1.0}, seed=1)
        async with asyncio.TaskGroup() as calls:
            failing = [calls.create_task(fail(jobs.connection.client)) for jobs in all_]
            await until(lambda: all(jobs.health.is_platform_away for jobs in all_))
            for call in failing:
                call.cancel()  # it would wait for the platform's return
        for jobs in all_:
            await jobs.health.note("settle", NotConnected("enterprises/getAll"))  # as where something was left
        assert not any([jobs.is_to_be_polled(await jobs.polls.look()) for jobs in all_])
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "SELECT 'add', id, 'NEW' FROM mews.vouchers"
        )
        assert [jobs.is_to_be_polled(await jobs.polls.look()) for jobs in all_] == [True, False, False, False]


async def test_an_outbox_that_nobody_has_looked_into_is_polled_whatever_the_look_for_all_finds(mirror: Mirror) -> None:
    jobs = app.make_jobs(mirror.connection, mirror.settings())
    assert jobs.is_to_be_polled(await jobs.polls.look())


async def test_the_scheduler_polls_an_outbox_whenever_anything_is_left_in_it(mirror: Mirror, jobs: Jobs) -> None:
    sent = asyncio.Queue[str]()

    async def on_request(operation: Operation, body: Any) -> None:
        if operation is Operation.ADD_CODES:
            sent.put_nowait(body["VoucherCodeParameters"][0]["Value"])

    mirror.simulator.on_request = on_request
    often = Intervals(pull_s=3600, discovery_s=3600, push_poll_s=0.05)
    schedule = Schedule(jobs.audit.cron, Random(1), often)
    with schedule.running():
        async with at_work(schedule, jobs):
            for value in ("first", "second"):  # nobody listens here for notifications
                await mirror.execute(
                    "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
                    "SELECT 'add', id, :value FROM mews.vouchers",
                    value=value,
                )
                async with asyncio.timeout(30):
                    assert await sent.get() == value


async def test_what_is_queued_while_a_call_has_no_answer_does_not_wait_for_it(mirror: Mirror, jobs: Jobs) -> None:
    sent, may_answer = asyncio.Queue[str](), asyncio.Event()

    async def on_request(operation: Operation, body: Any) -> None:
        if operation is Operation.ADD_CODES:
            sent.put_nowait(body["VoucherCodeParameters"][0]["Value"])
            await may_answer.wait()

    mirror.simulator.on_request = on_request
    jobs.outbox.begin()
    for value in ("first", "second"):
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "SELECT 'add', id, :value FROM mews.vouchers",
            value=value,
        )
        jobs.outbox.wake.set()
        async with asyncio.timeout(30):
            assert await sent.get() == value
    may_answer.set()
    await jobs.outbox.idle()
    assert jobs.outbox.ended == 2


@pytest.mark.long
async def test_news_wake_no_outbox_of_many_but_the_one_that_they_are_for(mirror: Mirror, jobs: Jobs) -> None:
    looks = make_looks(mirror.connection.engine)
    jobs = app.make_jobs(mirror.connection, mirror.settings(), looks)
    await jobs.pull()
    others = [
        app.make_jobs(replace(mirror.connection, name=f"hotel {number}"), mirror.settings(), looks)
        for number in range(9)
    ]
    seldom = Intervals(pull_s=3600, discovery_s=3600, push_poll_s=3600)
    schedule = Schedule(jobs.audit.cron, Random(1), seldom)  # whose clock does not run
    for one in (jobs, *others):
        await poll(one)
    before = [pushes(one) + 1 for one in others]  # each looks once, as it begins
    async with at_work(schedule, jobs, *others):
        await until(lambda: [pushes(one) for one in others] == before)
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "SELECT 'add', id, 'NEW' FROM mews.vouchers"
        )
        await schedule.wake_outboxes()
        await until(lambda: jobs.outbox.ended == 1)
        assert [pushes(one) for one in others] == before


def pushes(jobs: Jobs) -> int:
    """How often its outbox was looked into."""
    return jobs.health.runs["outbox", False]


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(3000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


@pytest.mark.long
async def test_pulls_with_nothing_new_of_many_are_one_statement(mirror: Mirror, jobs: Jobs) -> None:
    for number in range(20):
        mirror.add_voucher(f"Voucher {number}")
    await jobs.discover()
    await mirror.execute("UPDATE mews.vouchers SET connection = name")
    looks = make_looks(mirror.connection.engine)
    all_ = [
        app.make_jobs(replace(mirror.connection, name=f"Voucher {number}"), mirror.settings(), looks)
        for number in range(20)
    ]
    for _ in range(2):
        await asyncio.gather(*(one.pull() for one in all_))
    before = len(mirror.requests())
    with statements(mirror.connection.shared_engine) as said:
        await asyncio.gather(*(one.pull() for one in all_))
    assert len(said) <= 5
    assert len(mirror.requests()) == before + len(all_)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM sync.watermarks",
        "UPDATE sync.watermarks SET complete_through = complete_through - interval '1 day'",
        "INSERT INTO sync.skipped (connection, id, kind, reason) "
        "SELECT connection, id, 'voucher', 'refused' FROM mews.vouchers",
    ],
)
async def test_a_pull_asks_the_database_again_after_another_process_has_changed_it(
    mirror: Mirror, jobs: Jobs, change: str
) -> None:
    await jobs.pull()
    with statements(mirror.connection.shared_engine) as quiet:
        await jobs.pull()
    await mirror.execute(change)
    with statements(mirror.connection.shared_engine) as said:
        await jobs.pull()
    assert len(quiet) == 1
    assert len(said) > 1


async def test_a_pull_reads_a_voucher_that_was_found_a_moment_ago(mirror: Mirror, jobs: Jobs) -> None:
    await jobs.pull()
    mirror.add_codes(mirror.add_voucher("Winter"), ["C"])
    await jobs.discover()
    await jobs.pull()
    assert (await mirror.compare()).is_equal


async def test_a_poll_finds_what_no_notification_told_of(mirror: Mirror, jobs: Jobs) -> None:
    assert not await poll(jobs)
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', id, 'NEW' FROM mews.vouchers"
    )
    assert await poll(jobs)
    await jobs.outbox.push_all()
    assert not await poll(jobs)


async def test_a_poll_finds_a_change_that_belongs_to_no_connection_yet(mirror: Mirror, jobs: Jobs) -> None:
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :id, 'NEW')", id=uuid4()
    )
    assert await poll(jobs)


async def test_a_poll_finds_the_claim_of_a_process_that_died(mirror: Mirror, jobs: Jobs) -> None:
    await mirror.execute(
        "INSERT INTO sync.attempts (id, connection, server_utc, until) VALUES (:id, 'default', now(), now())",
        id=uuid4(),
    )
    assert await poll(jobs)


async def test_a_poll_reads_back_what_was_deleted_lately(mirror: Mirror, jobs: Jobs) -> None:
    await mirror.execute("UPDATE mews.voucher_codes SET delete_noted_at = now() WHERE value = 'A'")
    assert await poll(jobs)
    await mirror.execute("UPDATE mews.voucher_codes SET delete_noted_at = now() - interval '2 hours'")
    assert not await poll(jobs)


async def test_a_poll_asks_everything_while_something_fails(jobs: Jobs) -> None:
    await jobs.health.note("push", Unreconciled("of 1 change it is not known"))
    assert await poll(jobs)
    assert not jobs.health.errors  # nothing is left of it, as the look has found


async def test_the_look_goes_from_connection_to_connection(mirror: Mirror, jobs: Jobs) -> None:
    await mirror.execute("""
        INSERT INTO sync.connections (name, state) SELECT 'hotel ' || n, 'ok' FROM generate_series(1, 5) AS n
    """)
    await mirror.execute("""
        INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
        SELECT 'add', voucher.id, 'NEW-' || n FROM mews.vouchers AS voucher, generate_series(1, 50) AS n
    """)
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET connection = 'hotel ' || (id % 5 + 1)"))
    async with transaction(mirror.connection.engine) as tx:
        seen = await load_unfinished(tx)
    assert seen.connections == {f"hotel {n}" for n in range(1, 6)}
    assert not seen.has_unassigned
    assert seen.now.utcoffset() == timedelta()
