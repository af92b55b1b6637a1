"""A server's clock that no other clock confirms moves no watermark and sends no add; what needs no clock goes on."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from sync.audit.run import audit
from sync.core.errors import ClockRefused
from sync.demo.simulator import Close, Operation
from tests.support.flows import REPAIR, honest, later, note_caught_up, numbered, watermarks
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox, active

DAY_S = 86_400.0
AHEAD_S = {"2094": 68 * 365.25 * DAY_S, "1970": -56.9 * 365.25 * DAY_S, "two days": 2 * DAY_S, "back": -2 * DAY_S}
SHIFTS = [timedelta(days=-400), timedelta(days=400)]


@pytest.fixture
async def strict(mirror: Mirror) -> AsyncIterator[Mirror]:
    """Its client believes a clock within a day."""
    async with mirror.connected(sync_clock_tolerance_s=DAY_S):
        yield mirror


async def pull_refused(mirror: Mirror) -> None:
    """A pull that must read no code, since the API's clock is not believed."""
    before = len(mirror.requests())
    (error,) = (await mirror.pull()).errors
    assert isinstance(error, ClockRefused)
    assert len(mirror.requests()) == before


async def far_off(mirror: Mirror) -> dict[UUID, datetime]:
    """The watermarks beyond a day of the API's real time."""
    now = mirror.clock()
    return {one: end for one, end in (await watermarks(mirror)).items() if abs(end - now) > timedelta(days=1)}


@pytest.mark.sampled
@pytest.mark.parametrize("ahead_s", AHEAD_S.values(), ids=AHEAD_S)
async def test_no_watermark_follows_it_and_nothing_is_lost(strict: Mirror, ahead_s: float) -> None:
    voucher = strict.add_voucher()
    strict.add_codes(voucher, numbered(5))
    await strict.once()
    through = await watermarks(strict)
    strict.simulator.behaviour.date_ahead_s = ahead_s
    strict.clock.advance(timedelta(seconds=30))
    strict.world.add_codes(voucher.id, ["WHILE"])
    await strict.discover()
    await pull_refused(strict)
    assert await watermarks(strict) == through
    assert await far_off(strict) == {}
    strict.simulator.behaviour.date_ahead_s = 0.0
    await later(strict)
    assert await honest(strict) == []
    assert (await strict.compare()).is_equal


@pytest.mark.parametrize("ahead_s", AHEAD_S.values(), ids=AHEAD_S)
async def test_at_a_first_contact_it_plans_nothing(strict: Mirror, ahead_s: float) -> None:
    strict.add_codes(strict.add_voucher(), numbered(5))
    strict.simulator.behaviour.date_ahead_s = ahead_s
    await strict.discover()
    await pull_refused(strict)
    assert await watermarks(strict) == {}
    strict.simulator.behaviour.date_ahead_s = 0.0
    await later(strict)
    assert (await strict.compare()).is_equal


@pytest.mark.long
@pytest.mark.parametrize("shift", SHIFTS)
async def test_a_machine_that_is_wrong_by_itself_stops_no_process_that_knows_the_hotel(
    mirror: Mirror, shift: timedelta
) -> None:
    mirror.clock.shift = shift
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, numbered(5))
    await note_caught_up(mirror, await mirror.once())
    async with mirror.connected(sync_clock_tolerance_s=DAY_S):
        mirror.world.add_codes(voucher.id, ["NEW"])
        await later(mirror)
        assert (await mirror.compare()).is_equal
        # The API is right again where this machine's clock has it, and wrong where the database has noted it.
        mirror.simulator.behaviour.date_ahead_s = -2 * DAY_S
        await mirror.discover()
        await pull_refused(mirror)


@pytest.mark.parametrize("shift", SHIFTS)
async def test_where_nothing_was_known_nobody_could_tell_which_clock_is_wrong(strict: Mirror, shift: timedelta) -> None:
    strict.clock.shift = shift
    strict.add_codes(strict.add_voucher(), numbered(5))
    await strict.discover()
    await pull_refused(strict)


async def test_an_audit_goes_on(strict: Mirror) -> None:
    voucher = strict.add_voucher()
    strict.add_codes(voucher, numbered(5))
    await strict.once()
    strict.simulator.behaviour.date_ahead_s = AHEAD_S["2094"]
    strict.add_codes(voucher, ["UNSEEN"])
    await audit(strict.connection, REPAIR)
    assert (await strict.compare()).is_equal


@pytest.mark.long
async def test_deletes_go_on_and_adds_wait(strict: Mirror) -> None:
    outbox = Outbox(strict)
    voucher = strict.add_voucher()
    strict.add_codes(voucher, ["OLD"])
    await outbox.refresh()
    strict.simulator.behaviour.date_ahead_s = AHEAD_S["2094"]
    await strict.discover()
    await outbox.add(voucher, "NEW")
    await outbox.delete(voucher, "OLD")
    report = await outbox.pusher.push()
    assert (await outbox.statuses(), [*report.errors]) == (["pending", "done"], ["ClockRefused"])
    assert (outbox.calls(), active(strict)) == (0, {})
    strict.simulator.behaviour.date_ahead_s = 0.0
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"] * 2
    assert set(active(strict).values()) == {1}


@pytest.mark.long
async def test_an_add_of_unknown_outcome_is_looked_up_once_the_clock_is_believed(strict: Mirror) -> None:
    outbox = Outbox(strict)
    voucher = strict.add_voucher()
    strict.simulator.behaviour.allow_duplicates = True
    await outbox.refresh()
    await outbox.add(voucher, "A")
    strict.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    await outbox.pusher.push()
    strict.simulator.behaviour.date_ahead_s = AHEAD_S["1970"]
    await strict.discover()
    await outbox.be_due()
    await outbox.reconcile()
    assert await outbox.statuses() == ["uncertain"]
    strict.simulator.behaviour.date_ahead_s = 0.0
    await outbox.be_due()
    await outbox.reconcile()
    assert (await outbox.statuses(), set(active(strict).values())) == (["done"], {1})
