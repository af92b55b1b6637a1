"""A change that Mews has made is done, and is not made again, even if the mirror cannot show it."""

import pytest

from sync.core.errors import StatementRefused
from sync.demo.simulator import Close, Operation
from tests.support.flows import later, mirrored, numbered
from tests.support.guards import ALWAYS, BAD, CHECK, aside, put, trigger
from tests.support.mirror import Mirror
from tests.support.outbox import Outbox, active, look_again

SAID = "the mirror does not show it"


@pytest.mark.long
async def test_an_add_is_done_and_says_that_the_mirror_does_not_show_it(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await put(mirror, CHECK)
    await outbox.add(voucher, *numbered(20), BAD)
    await outbox.pusher.push()
    rows = await outbox.rows()
    assert {row["status"] for row in rows} == {"done"}
    assert {row["value"] for row in rows if row["last_error"] and SAID in row["last_error"]} == {BAD}
    assert {row["voucher_code_id"] for row in rows} == set(mirror.world.codes.truth)
    assert (len(await mirrored(mirror)), len(await aside(mirror)), outbox.calls()) == (20, 1, 1)


@pytest.mark.long
@pytest.mark.parametrize("allow_duplicates", [True, False])
async def test_an_add_whose_answer_was_lost_is_not_sent_again(
    mirror: Mirror, outbox: Outbox, allow_duplicates: bool
) -> None:
    mirror.simulator.behaviour.allow_duplicates = allow_duplicates
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await put(mirror, CHECK)
    await outbox.add(voucher, "A", BAD)
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    await outbox.pusher.push()
    await look_again(mirror, outbox)
    await outbox.pusher.push()
    rows = await outbox.rows()
    assert [(row["status"], row["last_error"] is not None) for row in rows] == [("done", False), ("done", True)]
    assert (outbox.calls(), active(mirror)) == (1, {(voucher.id, "A"): 1, (voucher.id, BAD): 1})


@pytest.mark.long
async def test_deletes_are_done_and_one_that_the_mirror_refuses_says_so(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A", "B", BAD])
    await outbox.refresh()
    await put(mirror, trigger("IF NEW.value = 'BAD' THEN RAISE EXCEPTION 'no %', NEW.value; END IF; RETURN NEW;"))
    await outbox.delete(voucher, "A", BAD)
    await outbox.pusher.push()
    rows = await outbox.rows()
    assert [(row["status"], SAID in (row["last_error"] or "")) for row in rows] == [("done", False), ("done", True)]
    assert active(mirror) == {(voucher.id, "B"): 1}
    assert (await later(mirror)).rejected == 1
    shown = await mirror.rows("SELECT value FROM mews.voucher_codes WHERE is_active ORDER BY value")
    assert [row["value"] for row in shown] == ["B", BAD]


@pytest.mark.long
async def test_an_add_is_not_sent_again_while_the_mirror_takes_nothing(mirror: Mirror, outbox: Outbox) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await put(mirror, ALWAYS["a trigger that always raises"])
    await outbox.add(voucher, "A")
    report = await outbox.pusher.push()
    assert [type(error) for error in report.errors.values()] == [StatementRefused]
    for _ in range(3):
        await look_again(mirror, outbox)
        await outbox.pusher.push()
    assert (outbox.calls(), set(await outbox.statuses()) <= {"sending", "uncertain"}) == (1, True)
    await put(mirror, ["DROP FUNCTION public.guard CASCADE"])
    await mirror.pull()
