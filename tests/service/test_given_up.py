"""What was unknown before a gap and cannot be looked up when that is adopted: it is not sent behind anybody."""

import pytest
from sqlalchemy import text

from sync.demo.simulator import Close, Operation, Voucher
from sync.outbox.claims import as_daemon
from sync.outbox.given_up import GIVEN_UP
from sync.service import app
from sync.service.adoption import Adoption, Rest, adopt
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox, active, look_again

ELSEWHERE = "UPDATE sync.incarnation SET database_oid = 1"
"""As in a restored database."""
OF_ANOTHER = "UPDATE mews.voucher_code_outbox SET connection = 'lake'"
"""A connection that is paused: nobody looks anything up for it."""
GOES_ON = "UPDATE mews.voucher_code_outbox SET connection = 'default'"
"""Somebody works for it again."""
NO_TRIGGERS = "SET LOCAL session_replication_role = replica"
UNDER_WAY = (
    "UPDATE mews.voucher_code_outbox SET status = 'sending', uncertain_because = NULL WHERE status = 'uncertain'"
)
RETRY = "UPDATE mews.voucher_code_outbox SET status = 'pending' WHERE status = 'failed'"
FOLLOW = (
    "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, after_id) "
    "SELECT 'add', voucher_id, 'SECOND', id FROM mews.voucher_code_outbox"
)


@pytest.fixture
async def voucher(mirror: Mirror, outbox: Outbox) -> Voucher:
    """It has an add whose outcome is unknown, in a database that was restored since."""
    voucher = mirror.add_voucher()
    mirror.add_voucher("another")
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=False))
    await outbox.pusher.push()
    assert await outbox.statuses() == ["uncertain"]
    await mirror.execute(ELSEWHERE)
    return voucher


async def adopted(mirror: Mirror, rest: Rest | None) -> Adoption:
    async def pause() -> None:
        """Whatever was sent shows at once."""

    async with mirror.connected():
        return await adopt(mirror.connection, app.make_jobs(mirror.connection, mirror.settings()), rest, pause)


@pytest.mark.parametrize("rest", list(Rest))
async def test_of_a_voucher_that_is_hidden_nothing_is_sent_once_it_is_shown(
    mirror: Mirror, outbox: Outbox, voucher: Voucher, rest: Rest
) -> None:
    hidden = mirror.world.vouchers.pop(voucher.id)
    await look_again(mirror, outbox)
    adoption = await adopted(mirror, rest)
    mirror.world.vouchers[voucher.id] = hidden
    await look_again(mirror, outbox)
    await outbox.refresh()
    await outbox.pusher.push()
    assert (adoption.failed, adoption.adopted, active(mirror)) == (1, True, {})
    assert [(row["status"], row["last_error"]) for row in await outbox.rows()] == [("failed", GIVEN_UP)]


@pytest.mark.parametrize("is_under_way", [True, False])
async def test_of_a_connection_that_is_paused_nothing_is_sent_once_it_goes_on(
    mirror: Mirror, outbox: Outbox, voucher: Voucher, *, is_under_way: bool
) -> None:
    await mirror.execute(FOLLOW)
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text(OF_ANOTHER + " WHERE status = 'uncertain'"))
        if is_under_way:
            await tx.execute(text(NO_TRIGGERS))
            await tx.execute(text(UNDER_WAY))
    looked = await adopted(mirror, None)
    assert (looked.failed, looked.left.adds, looked.adopted) == (1, 1, False)
    adoption = await adopted(mirror, Rest.KEEP)
    assert (adoption.failed, adoption.left.adds, adoption.adopted) == (1, 1, True)
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text(GOES_ON))
    await outbox.refresh()
    await outbox.pusher.push()
    assert (await outbox.statuses(), active(mirror)) == (["failed", "held"], {})


async def test_retried_it_is_done_by_what_it_had_made(mirror: Mirror, outbox: Outbox, voucher: Voucher) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    (code,) = mirror.add_codes(voucher, ["NEW"], days_old=0)
    hidden = mirror.world.vouchers.pop(voucher.id)
    await look_again(mirror, outbox)
    await adopted(mirror, Rest.CANCEL)
    mirror.world.vouchers[voucher.id] = hidden
    await outbox.refresh()
    await mirror.execute(RETRY)
    await outbox.pusher.push()  # notices that it has another name
    await outbox.refresh()
    await outbox.pusher.push()
    assert [(row["status"], row["voucher_code_id"]) for row in await outbox.rows()] == [("done", code.id)]
    assert outbox.calls() == 1


@pytest.mark.parametrize("was_done_before", [True, False])
async def test_what_is_held_of_a_hidden_voucher_is_not_released_and_stops_no_other(
    mirror: Mirror, outbox: Outbox, *, was_done_before: bool
) -> None:
    """Where nothing was ever done, all codes of the vouchers are read, which the API refuses for one that it hides."""
    hidden, shown = mirror.add_voucher(), mirror.add_voucher("another")
    await outbox.refresh()
    if was_done_before:
        await outbox.add(shown, "BEFORE")
        await outbox.pusher.push()
    await outbox.add(hidden, "ONE")
    await outbox.add(shown, "TWO")
    await mirror.execute(ELSEWHERE)
    mirror.world.vouchers.pop(hidden.id)
    adoption = await adopted(mirror, Rest.RELEASE)
    assert (adoption.errors, adoption.adopted) == ([], True)
    assert (adoption.released, adoption.left.adds) == (1, 1)


async def test_what_is_held_of_a_hidden_voucher_is_looked_up_later(mirror: Mirror, outbox: Outbox) -> None:
    """As what `--keep` has left: of three one was made, one made and deleted since, and one never made."""
    hidden = mirror.add_voucher()
    mirror.add_voucher("another")
    await outbox.refresh()
    await outbox.add(hidden, "MADE", "DELETED", "NEVER")
    await mirror.execute(ELSEWHERE)
    _, deleted = mirror.add_codes(hidden, ["MADE", "DELETED"], days_old=0)
    mirror.world.delete_code(deleted.id)
    voucher = mirror.world.vouchers.pop(hidden.id)
    assert (await adopted(mirror, Rest.RELEASE)).left.adds == 3
    mirror.world.vouchers[hidden.id] = voucher
    for done in (2, 0):
        later = await adopted(mirror, Rest.RELEASE)
        assert (later.gap, later.done, later.released, later.left.adds) == (None, done, 0, 1)
    assert await outbox.statuses() == ["done", "done", "held"]
