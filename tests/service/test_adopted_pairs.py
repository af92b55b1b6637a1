"""Adopting a database in which several changes of one code are held, or one that was undone since (invariant 14)."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from sync.core.errors import NotAdopted
from sync.demo.simulator import Operation, Status, Voucher
from sync.outbox.claims import as_daemon
from sync.service import app
from sync.service.adoption import Rest, adopt
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, Outbox, active

A_MOMENT = 1e-4
"""Days; a pull does not see what the API made in the very same second."""
ELSEWHERE = "UPDATE sync.incarnation SET database_oid = 1"
"""As in a restored database."""


async def _adopted(mirror: Mirror, rest: Rest = Rest.RELEASE) -> None:
    """The database is adopted, and all that is released is sent."""

    async def pause() -> None:
        mirror.clock.advance(A_WHILE)

    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        await adopt(mirror.connection, jobs, rest, pause)
        after = Outbox(mirror)
        while set(await after.statuses()) & {"pending", "sending", "uncertain"}:
            await after.refresh()
            await after.be_due()
            await after.pusher.push()


@pytest.mark.sampled
@pytest.mark.parametrize("made", [0, 1, 2], ids=["nothing", "the delete", "both"])
@pytest.mark.parametrize("ahead", [timedelta(), timedelta(hours=1)], ids=["clocks alike", "API's ahead"])
async def test_a_code_deleted_and_added_again_stands_once_whatever_of_it_was_made(
    mirror: Mirror, outbox: Outbox, made: int, ahead: timedelta
) -> None:
    mirror.clock.advance(ahead)
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    (old,) = mirror.add_codes(voucher, ["A"], days_old=A_MOMENT)
    await mirror.once()
    await outbox.refresh()
    await outbox.delete(voucher, "A")
    await outbox.add(voucher, "A")
    await mirror.execute(ELSEWHERE)
    if made:
        mirror.world.delete_code(old.id)
    if made == 2:
        mirror.add_codes(voucher, ["A"], days_old=0)

    await _adopted(mirror)
    assert (await outbox.statuses(), active(mirror)) == (["done", "done"], {(voucher.id, "A"): 1})
    assert (len(mirror.world.codes.truth), mirror.world.codes.truth[old.id].is_active) == (2, False)


async def _added_and_deleted(mirror: Mirror, outbox: Outbox, voucher: Voucher) -> None:
    """An add that was not processed when it was first sent, so that a delete of the same code does not take it back."""
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(429))
    await outbox.refresh()
    await outbox.add(voucher, "A")
    await outbox.pusher.push()
    await outbox.delete(voucher, "A")
    assert await outbox.statuses() == ["pending", "pending"]
    await mirror.execute(ELSEWHERE)


@pytest.mark.sampled
@pytest.mark.parametrize("made", [0, 1, 2], ids=["nothing", "the add", "both"])
@pytest.mark.parametrize("is_value_known", [False, True], ids=["a new value", "a value of old"])
async def test_a_code_added_and_deleted_is_made_once_and_stands_no_more(
    mirror: Mirror, outbox: Outbox, made: int, is_value_known: bool
) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    if is_value_known:
        (old,) = mirror.add_codes(voucher, ["A"])
        mirror.world.delete_code(old.id)
    await mirror.once()
    await _added_and_deleted(mirror, outbox, voucher)
    if made:
        (code,) = mirror.add_codes(voucher, ["A"], days_old=0)
        if made == 2:
            mirror.world.delete_code(code.id)
    await _adopted(mirror)
    assert (await outbox.statuses(), active(mirror)) == (["done", "done"], {})
    assert len(mirror.world.codes.truth) == is_value_known + 1


@pytest.mark.long
async def test_what_was_made_and_has_been_deleted_since_is_not_made_again(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    await mirror.execute(ELSEWHERE)
    (code,) = mirror.add_codes(voucher, ["A"], days_old=0)
    mirror.world.delete_code(code.id)
    await _adopted(mirror)
    assert (await outbox.statuses(), active(mirror), len(mirror.world.codes.truth)) == (["done"], {}, 1)


@pytest.mark.long
async def test_what_was_made_and_deleted_just_before_an_add_was_queued_is_another_code(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    (old,) = mirror.add_codes(voucher, ["A"], days_old=0)
    mirror.clock.advance(timedelta(seconds=1))
    await mirror.once()
    await outbox.delete(voucher, "A")
    await outbox.refresh()
    await outbox.pusher.push()
    await outbox.add(voucher, "A")
    await mirror.execute(ELSEWHERE)
    await _adopted(mirror)
    assert (await outbox.statuses(), active(mirror)) == (["done", "done"], {(voucher.id, "A"): 1})
    assert not mirror.world.codes.truth[old.id].is_active


@pytest.mark.long
async def test_what_a_delete_has_deleted_is_not_what_the_add_behind_it_has_made(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    (unseen,) = mirror.add_codes(voucher, ["A"], days_old=0)
    await outbox.delete(voucher, "A")
    await outbox.add(voucher, "A")
    await mirror.execute(ELSEWHERE)
    mirror.world.delete_code(unseen.id)
    await _adopted(mirror)
    assert (await outbox.statuses(), active(mirror)) == (["done", "done"], {(voucher.id, "A"): 1})


@pytest.mark.long
async def test_adopted_once_more_an_add_is_not_done_by_what_the_delete_before_it_has_deleted(
    mirror: Mirror, outbox: Outbox
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    (unseen,) = mirror.add_codes(voucher, ["A"], days_old=0)
    await outbox.delete(voucher, "A")
    await outbox.add(voucher, "A")
    await mirror.execute(ELSEWHERE)
    mirror.world.delete_code(unseen.id)
    await _adopted(mirror, Rest.KEEP)
    assert await outbox.statuses() == ["done", "held"]
    await mirror.execute(ELSEWHERE)
    await _adopted(mirror)
    assert (await outbox.statuses(), active(mirror)) == (["done", "done"], {(voucher.id, "A"): 1})


@pytest.mark.long
@pytest.mark.parametrize("ahead", [timedelta(), timedelta(hours=1)], ids=["clocks alike", "API's ahead"])
@pytest.mark.parametrize("was_deleted", [False, True], ids=["deleted since", "deleted before"])
async def test_what_was_made_after_a_delete_had_been_carried_out_is_not_what_it_means(
    mirror: Mirror, outbox: Outbox, ahead: timedelta, was_deleted: bool
) -> None:
    """By a person, or by an add that was queued since and is lost. What was deleted before proves nothing."""
    mirror.clock.advance(ahead)
    voucher = mirror.add_voucher()
    (old,) = mirror.add_codes(voucher, ["A"])
    if was_deleted:
        mirror.clock.advance(-2 * A_WHILE)
        mirror.world.delete_code(old.id)
        mirror.clock.advance(2 * A_WHILE)
    await outbox.refresh()
    await outbox.delete(voucher, "A")
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET created_at = created_at - interval '20 s'"))
    await mirror.execute(ELSEWHERE)
    if not was_deleted:
        mirror.world.delete_code(old.id)
    mirror.add_codes(voucher, ["A"], days_old=0)
    mirror.clock.advance(timedelta(seconds=1))
    await _adopted(mirror)
    assert (await outbox.statuses(), active(mirror)) == (["done"], {} if was_deleted else {(voucher.id, "A"): 1})


@pytest.mark.long
@pytest.mark.parametrize("is_made", [True, False])
async def test_a_delete_of_what_may_have_been_made_deletes_it_and_lets_it_not_be_made(
    mirror: Mirror, outbox: Outbox, is_made: bool
) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A")
    await mirror.execute(ELSEWHERE)
    if is_made:
        mirror.add_codes(voucher, ["A"], days_old=0)
    mirror.clock.advance(A_WHILE)  # what was made in this very second a pull does not see yet
    async with mirror.connected():
        with pytest.raises(NotAdopted):
            await Outbox(mirror).pusher.push()
    assert await outbox.statuses() == ["held"]
    await outbox.delete(voucher, "A")
    await _adopted(mirror)
    ends = "done" if is_made else "failed"  # there was nothing to delete
    assert (await outbox.statuses(), active(mirror)) == (["cancelled", ends], {})
    assert len(mirror.world.codes.truth) == is_made
