"""Adopting a database in which a code is to be deleted and then added again (invariant 14)."""

from datetime import timedelta

import pytest

from sync.service import app
from sync.service.adoption import Rest, adopt
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, Outbox, active

A_MOMENT = 1e-4
"""Days; a pull does not see what the API made in the very same second."""
ELSEWHERE = "UPDATE sync.incarnation SET database_oid = 1"
"""As in a restored database."""


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

    async def pause() -> None:
        mirror.clock.advance(A_WHILE)

    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        await adopt(mirror.connection, jobs, Rest.RELEASE, pause)
        after = Outbox(mirror)
        while set(await after.statuses()) & {"pending", "sending", "uncertain"}:
            await after.refresh()
            await after.be_due()
            await after.pusher.push()
    assert (await outbox.statuses(), active(mirror)) == (["done", "done"], {(voucher.id, "A"): 1})
    assert (len(mirror.world.codes.truth), mirror.world.codes.truth[old.id].is_active) == (2, False)
