"""Two changes of which the second is to follow the first reach the API in that order, whatever becomes of the first."""

from collections.abc import Sequence

import pytest

from sync.demo.simulator import Close, Operation, Status, Voucher
from sync.service import app
from sync.service.adoption import Rest, adopt
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, Outbox, active, look_again

WRITES = (Operation.ADD_CODES, Operation.DELETE_CODES)


async def queue_pairs(outbox: Outbox, voucher: Voucher, old: Sequence[str], new: Sequence[str], first: str) -> None:
    """Queues an add and a delete of each pair, the second behind the first."""
    firsts, seconds, second = (new, old, "delete") if first == "add" else (old, new, "add")
    await (outbox.add if first == "add" else outbox.delete)(voucher, *firsts)
    await outbox.mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, after_id) "
        "SELECT :second, voucher_id, pair.value, row.id FROM mews.voucher_code_outbox AS row "
        "JOIN unnest(CAST(:firsts AS text[]), CAST(:seconds AS text[])) AS pair(first, value) ON first = row.value",
        second=second, firsts=list(firsts), seconds=list(seconds),
    )  # fmt: skip


def writes(mirror: Mirror) -> list[tuple[Operation, int]]:
    """The writes that the API got, in their order, with their status."""
    return [(one.operation, one.status or 0) for one in mirror.simulator.requests if one.operation in WRITES]


async def test_a_code_is_deleted_once_its_successor_stands(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["OLD"])
    await outbox.refresh()
    await queue_pairs(outbox, voucher, ["OLD"], ["NEW"], "add")
    assert (await outbox.pusher.push()).done == 2
    assert writes(mirror) == [(Operation.ADD_CODES, 200), (Operation.DELETE_CODES, 200)]
    assert active(mirror) == {(voucher.id, "NEW"): 1}


async def test_many_pairs_go_in_as_many_calls_as_they_would_alone(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    old, new = ([f"{word}-{number}" for number in range(60)] for word in ("OLD", "NEW"))
    mirror.add_codes(voucher, old)
    await outbox.refresh()
    await queue_pairs(outbox, voucher, old, new, "add")
    assert (await outbox.pusher.push()).done == 120
    assert writes(mirror) == [(Operation.ADD_CODES, 200), (Operation.DELETE_CODES, 200)]


async def test_a_refused_successor_leaves_the_code_until_it_is_retried(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["OLD", "OLDER"])
    mirror.simulator.behaviour.refused_values.add("NEW")
    await outbox.refresh()
    await queue_pairs(outbox, voucher, ["OLD", "OLDER"], ["NEW", "NEWER"], "add")
    await outbox.pusher.push()
    assert await outbox.statuses() == ["failed", "done", "pending", "done"]
    assert active(mirror) == {(voucher.id, "OLD"): 1, (voucher.id, "NEWER"): 1}
    mirror.simulator.behaviour.refused_values.clear()
    await mirror.execute("UPDATE mews.voucher_code_outbox SET status = 'pending' WHERE status = 'failed'")
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done"] * 4
    assert active(mirror) == {(voucher.id, "NEW"): 1, (voucher.id, "NEWER"): 1}


@pytest.mark.parametrize("fault", [Close(processed=True), Close(), Status(500)])
async def test_nothing_follows_what_may_not_be_done(mirror: Mirror, outbox: Outbox, fault: Close | Status) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["OLD"])
    await outbox.refresh()
    await queue_pairs(outbox, voucher, ["OLD"], ["NEW"], "add")
    mirror.simulator.faults.script(Operation.ADD_CODES, fault)
    await outbox.pusher.push()
    assert await outbox.statuses() == ["uncertain", "pending"]
    assert outbox.calls(Operation.DELETE_CODES) == 0
    await look_again(mirror, outbox)
    await outbox.pusher.push()
    assert await outbox.statuses() == ["done", "done"]
    assert active(mirror) == {(voucher.id, "NEW"): 1}


async def test_a_code_gets_another_validity_by_a_delete_and_an_add_behind_it(mirror: Mirror, outbox: Outbox) -> None:
    voucher = mirror.add_voucher()
    (code,) = mirror.add_codes(voucher, ["SAME"])
    await outbox.refresh()
    await queue_pairs(outbox, voucher, ["SAME"], ["SAME"], "delete")
    assert (await outbox.pusher.push()).done == 2
    assert writes(mirror) == [(Operation.DELETE_CODES, 200), (Operation.ADD_CODES, 200)]
    assert active(mirror) == {(voucher.id, "SAME"): 1}
    assert not mirror.world.codes.truth[code.id].is_active


async def test_a_code_is_not_added_again_before_its_delete_that_was_refused(mirror: Mirror, outbox: Outbox) -> None:
    """Of one code a later change goes on once an earlier one has failed: here it must not."""
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["SAME"])
    await outbox.refresh()
    await queue_pairs(outbox, voucher, ["SAME"], ["SAME"], "delete")
    mirror.simulator.faults.script(Operation.DELETE_CODES, Status(403))
    await outbox.pusher.push()
    assert await outbox.statuses() == ["failed", "pending"]
    assert outbox.calls() == 0


async def test_of_a_pair_before_a_gap_each_is_made_once(mirror: Mirror, outbox: Outbox) -> None:
    """The database has lost what became of the pair, of which the API has made the first half."""
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["OLD"])
    await mirror.once()
    await outbox.refresh()
    await queue_pairs(outbox, voucher, ["OLD"], ["NEW"], "add")
    mirror.add_codes(voucher, ["NEW"], days_old=0)
    await mirror.execute("UPDATE sync.incarnation SET database_oid = 1")  # as in a restored database

    async def pause() -> None:
        mirror.clock.advance(A_WHILE)

    async with mirror.connected():
        jobs = app.make_jobs(mirror.connection, mirror.settings())
        adoption = await adopt(mirror.connection, jobs, Rest.RELEASE, pause)
        assert (adoption.done, adoption.released) == (1, 1)
        outbox = Outbox(mirror)
        await outbox.refresh()
        await outbox.pusher.push()
    assert await outbox.statuses() == ["done", "done"]
    assert active(mirror) == {(voucher.id, "NEW"): 1}
    assert outbox.calls() == 0
