"""Adopting a database whose last changes were sent a moment ago."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from sync.cli.once_outcome import Outcome
from sync.demo.simulator import Operation
from sync.outbox import gap
from sync.outbox.claims import as_daemon
from sync.service import app
from sync.service.adoption import Rest, adopt
from tests.support.database import blocked
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.outbox import A_WHILE, Outbox

ELSEWHERE = "UPDATE sync.incarnation SET database_oid = 1"
"""As in a restored database."""
HOLD = "UPDATE mews.voucher_code_outbox SET status = 'held', held_because = 'too_many_deletes'"
RELEASE = "UPDATE mews.voucher_code_outbox SET status = 'pending' WHERE status = 'held'"
AN_HOUR_AHEAD = "UPDATE mews.voucher_code_outbox SET released_at = released_at + interval '1 hour'"
GAP_AN_HOUR_AHEAD = "UPDATE sync.incarnation SET gap_at = gap_at + interval '1 hour'"
"""As of a clock of the database that went back since, or of another server's."""
QUEUED_AHEAD = "UPDATE mews.voucher_code_outbox SET created_at = created_at + :by"
LOCK = "SELECT FROM mews.voucher_code_outbox FOR UPDATE"
QUEUE_UNKNOWN = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher_id, 'X')"
TAKEN_OVER = "UPDATE sync.incarnation SET timeline = timeline - 1, started_at = started_at - interval '1 day'"


@pytest.mark.long
@pytest.mark.parametrize("is_made", [True, False])
async def test_what_was_sent_a_moment_ago_is_not_released_before_the_api_must_show_it(
    mirror: Mirror, outbox: Outbox, is_made: bool
) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    await mirror.execute(ELSEWHERE)
    if is_made:
        (code,) = mirror.add_codes(voucher, ["NEW"], days_old=0)
        mirror.world.hard_delete_code(code.id)  # else readers would find it until the one is shown that is hidden
        mirror.world.codes.put([code], hidden_for_s=A_WHILE.total_seconds() - 1)

    async def pause() -> None:
        mirror.clock.advance(A_WHILE)

    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        adoption = await adopt(mirror.connection, jobs, Rest.RELEASE, pause)
    assert (adoption.done, adoption.released, adoption.adopted) == (is_made, not is_made, True)


@pytest.mark.long
async def test_what_is_queued_during_a_pull_that_came_too_early_behind_a_takeover_is_told(
    mirror: Mirror, outbox: Outbox
) -> None:
    """A `once` that has nothing to send does not wait until a pull counts; then somebody queues something."""
    voucher = mirror.add_voucher()
    await mirror.once()
    async with mirror.connected():
        await mirror.connection.incarnation.check(mirror.connection.engine)
    await mirror.execute(TAKEN_OVER)
    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        discovered, pulled = await jobs.discover(), await jobs.pull_turn()
        assert mirror.connection.incarnation.shows_in_s
        assert not (await jobs.outbox.push_all()).errors
        await outbox.add(voucher, "NEW")
        pushed = await jobs.outbox.push_all()
        assert (list(pushed.errors), mirror.requests(Operation.ADD_CODES)) == (["IncarnationChanged"], [])
        assert not Outcome(discovered, pulled, pushed, [*pushed.errors.values()]).is_complete


@pytest.mark.long
async def test_it_waits_only_where_adds_are_held(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["OLD"])
    await mirror.once()
    await outbox.refresh()
    await outbox.delete(voucher, "OLD")
    await mirror.execute(ELSEWHERE)

    async def pause() -> None:
        pytest.fail("no code can be made twice by a delete")

    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        adoption = await adopt(mirror.connection, jobs, Rest.RELEASE, pause)
    assert (adoption.released, adoption.adopted) == (1, True)


@pytest.mark.long
async def test_what_stays_held_is_told_also_where_the_api_cannot_be_read(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    await mirror.execute(ELSEWHERE)
    mirror.world.permit(ACCESS_TOKEN, set(Operation) - {Operation.GET_CODES})

    async def pause() -> None:
        mirror.clock.advance(A_WHILE)

    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        adoption = await adopt(mirror.connection, jobs, Rest.RELEASE, pause)
    assert (adoption.left.adds, adoption.adopted, bool(adoption.errors)) == (1, False, True)


@pytest.mark.long
async def test_rows_that_come_into_a_copy_after_it_was_found_are_looked_up_too(mirror: Mirror, outbox: Outbox) -> None:
    """A restore may fill the outbox last, while somebody looks at what is there already."""
    voucher = mirror.add_voucher()
    await mirror.once()
    await outbox.refresh()
    await mirror.execute(ELSEWHERE)

    async def pause() -> None:
        mirror.clock.advance(A_WHILE)

    async with mirror.connected():
        await mirror.connection.incarnation.check(mirror.connection.engine)
        await outbox.add(voucher, "NEW")
        mirror.add_codes(voucher, ["NEW"], days_old=0)
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        adoption = await adopt(mirror.connection, jobs, Rest.RELEASE, pause)
        assert (adoption.done, adoption.released, adoption.adopted) == (1, 0, True)
        await jobs.outbox.push_all()
    assert mirror.requests(Operation.ADD_CODES) == []


async def test_what_was_released_before_a_gap_by_a_clock_that_was_ahead_is_held_by_it(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text(HOLD))
    await mirror.execute(RELEASE)
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text(AN_HOUR_AHEAD))
    await mirror.execute(ELSEWHERE)
    assert await held_by_gap(mirror) == 1


async def test_what_adopt_has_released_is_not_held_again_though_the_clock_went_back(
    mirror: Mirror, outbox: Outbox
) -> None:
    """Beside a daemon, which holds what was queued before a gap as long as nobody has closed it."""
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    await mirror.execute(ELSEWHERE)
    assert await held_by_gap(mirror) == 1
    await mirror.execute(GAP_AN_HOUR_AHEAD)
    async with as_daemon(mirror.connection.engine) as tx:
        await gap.release(tx, [row.id for row in await gap.held_rows(tx, 0, 1)])
    assert await held_by_gap(mirror) == 0


async def test_what_a_user_has_released_is_not_held_again_though_the_clock_went_back(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    await mirror.execute(ELSEWHERE)
    async with mirror.connected():
        await mirror.connection.incarnation.check(mirror.connection.engine)
    await mirror.execute(GAP_AN_HOUR_AHEAD)
    assert await held_by_gap(mirror) == 1
    await mirror.execute(RELEASE)
    assert await held_by_gap(mirror) == 0


@pytest.mark.parametrize("is_by_hand", [True, False])
async def test_what_an_adoption_has_released_that_was_never_recorded_is_decided_anew(
    mirror: Mirror, outbox: Outbox, *, is_by_hand: bool
) -> None:
    """It was ended in between; what somebody has released himself stays so."""
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    await mirror.execute(ELSEWHERE)
    assert await held_by_gap(mirror) == 1
    if is_by_hand:
        await mirror.execute(RELEASE)
    else:
        async with as_daemon(mirror.connection.engine) as tx:
            await gap.release(tx, [row.id for row in await gap.held_rows(tx, 0, 1)])
    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        looked = await adopt(mirror.connection, jobs, None, no_pause)
        adopted = await adopt(mirror.connection, jobs, Rest.CANCEL, no_pause)
    left = 0 if is_by_hand else 1
    assert (looked.left.adds, adopted.cancelled, adopted.adopted) == (left, left, True)
    assert await outbox.statuses() == ["pending" if is_by_hand else "cancelled"]


@pytest.mark.parametrize("queued_ahead_by", [timedelta(seconds=30), timedelta(hours=1)])
async def test_what_was_queued_by_another_clock_and_made_is_not_made_again(
    mirror: Mirror, outbox: Outbox, queued_ahead_by: timedelta
) -> None:
    """As by that of a server that is gone: by it the code was made before it was asked for."""
    voucher = mirror.add_voucher()
    await mirror.once()
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text(QUEUED_AHEAD), {"by": queued_ahead_by})
    await mirror.execute(ELSEWHERE)
    (code,) = mirror.add_codes(voucher, ["NEW"], days_old=0)
    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        adopted = await adopt(mirror.connection, jobs, Rest.RELEASE, no_pause)
    assert (adopted.done, adopted.released, adopted.adopted) == (1, 0, True)
    assert [row["voucher_code_id"] for row in await outbox.rows()] == [code.id]


async def test_what_was_released_in_a_copy_is_held_in_a_copy_of_that(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    for _ in range(2):
        await mirror.execute(ELSEWHERE)
        assert await held_by_gap(mirror) == 1
        await mirror.execute(RELEASE)
        assert await held_by_gap(mirror) == 0


async def test_what_is_queued_after_a_gap_is_numbered_after_what_was_before_it(mirror: Mirror, outbox: Outbox) -> None:
    """A logical replica has the rows and not where their numbers stand, and so has a restore of the table alone."""
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "OLD", "OLDER")
    await mirror.execute("SELECT setval('mews.voucher_code_outbox_id_seq', 1, false)")
    await mirror.execute(ELSEWHERE)
    assert await held_by_gap(mirror) == 2
    await outbox.add(voucher, "NEW")
    assert [row["value"] for row in await outbox.rows()] == ["OLD", "OLDER", "NEW"]


async def held_by_gap(mirror: Mirror) -> int:
    """How many changes a process holds that finds a gap."""
    async with mirror.connected():
        engine, incarnation = mirror.connection.engine, mirror.connection.incarnation
        await incarnation.check(engine)
        assert incarnation.known
        return (await gap.hold_all_before_gap(engine, incarnation.known))[0]


@pytest.mark.parametrize("rest", [Rest.CANCEL, Rest.KEEP])
@pytest.mark.parametrize("is_held", [True, False])
async def test_what_somebody_has_locked_is_waited_for_and_not_left_to_be_sent(
    mirror: Mirror, outbox: Outbox, rest: Rest, is_held: bool
) -> None:
    voucher = mirror.add_voucher()
    await mirror.once()
    await outbox.refresh()
    await outbox.add(voucher, "MADE", "NEW")
    await mirror.execute(ELSEWHERE)
    mirror.add_codes(voucher, ["MADE"], days_old=0)

    async with mirror.connected(), await psycopg.AsyncConnection.connect(mirror.way) as other:

        async def pause() -> None:
            if is_held:
                await other.execute(LOCK)

        jobs = app.make_jobs(mirror.connection, mirror.settings())
        if not is_held:
            await other.execute(LOCK)
        adopting = asyncio.create_task(adopt(mirror.connection, jobs, rest, pause))
        await blocked(mirror.connection.engine, adopting)
        await other.rollback()
        adoption = await adopting
    assert (adoption.done, adoption.adopted) == (1, True)
    assert await outbox.statuses() == ["done", "cancelled" if rest is Rest.CANCEL else "held"]


@pytest.mark.parametrize("rest", [Rest.RELEASE, Rest.CANCEL])
async def test_what_names_an_unknown_voucher_goes_with_the_rest(mirror: Mirror, outbox: Outbox, rest: Rest) -> None:
    await outbox.refresh()
    await mirror.execute(QUEUE_UNKNOWN, voucher_id=uuid4())
    await mirror.execute(ELSEWHERE)
    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        adoption = await adopt(mirror.connection, jobs, rest, no_pause)
    assert (adoption.left.adds, adoption.released + adoption.cancelled, adoption.adopted) == (0, 1, True)


async def no_pause() -> None:
    """Whatever was sent shows at once."""
