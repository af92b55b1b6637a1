"""Changes that are noted as one connection's while their voucher is another's, both at work: that one makes them."""

from dataclasses import replace

import psycopg
import pytest
from sqlalchemy import text

from sync.connection.connection import Connection
from sync.demo.simulator import Close, Operation, RequestRecord, Status, Voucher
from sync.demo.simulator.faults import PartialAnswer
from sync.mirror.discover import discover
from sync.outbox.claims import as_daemon
from sync.service import app
from sync.service.jobs import Jobs
from tests.support.mirror import ACCESS_TOKEN, OVERLAP, Mirror
from tests.support.outbox import A_WHILE, Outbox, active

QUEUE = "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES (%s, %s, %s)"
DELETE = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('delete', :voucher_id, 'NEW')
"""
WAIT = """
SELECT CAST(extract(epoch FROM row.next_attempt_at - last.settled_at) AS int) AS seconds
FROM mews.voucher_code_outbox AS row JOIN mews.voucher_code_outbox_attempts AS last
  ON last.outbox_id = row.id AND last.attempt_id = row.attempt_id
"""
TO_GROUP = "UPDATE mews.vouchers SET connection = 'group'"


async def lose(mirror: Mirror) -> None:
    """The connection of the environment sees the hotel no more, and has noticed."""
    mirror.world.withdraw(ACCESS_TOKEN, mirror.hotel.id)
    await mirror.discover()


async def queue_late(
    mirror: Mirror, group: Connection, voucher: Voucher, changes: list[tuple[str, str]]
) -> list[tuple[str, str | None]]:
    """Queues changes in a transaction that stays open while their voucher is taken over; how they stand then."""
    async with await psycopg.AsyncConnection.connect(mirror.database_url) as user:
        for operation, value in changes:
            await user.execute(QUEUE, [operation, voucher.id, value])
        await lose(mirror)
        await discover(group)
    assert await mirror.rows("SELECT connection FROM mews.vouchers") == [{"connection": "group"}]
    return await stand(mirror)


async def stand(mirror: Mirror) -> list[tuple[str, str | None]]:
    rows = await mirror.rows("SELECT status, connection FROM mews.voucher_code_outbox ORDER BY id")
    return [(row["status"], row["connection"]) for row in rows]


async def push_all(mirror: Mirror, group: Connection) -> tuple[int, int]:
    """What the group does and fails, as its daemon pushes."""
    jobs = app.make_jobs(group, mirror.settings(sync_settle_after_s=0.001))
    await jobs.pull()
    pushed = await jobs.outbox.push_all()
    return pushed.done, pushed.failed


async def test_a_change_that_was_queued_before_its_voucher_moved_goes_with_it(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    await outbox.refresh()
    assert await queue_late(mirror, group, voucher, [("add", "NEW")]) == [("pending", "default")]
    report = await outbox.pusher.push()
    assert (report.failed, report.calls) == (0, 0)
    assert await stand(mirror) == [("pending", "group")]
    assert await push_all(mirror, group) == (1, 0)
    assert active(mirror)[voucher.id, "NEW"] == 1
    assert {record.token for record in mirror.requests(Operation.ADD_CODES)} == {"group"}


async def test_more_than_a_call_takes_go_too(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    await outbox.refresh()
    await queue_late(mirror, group, voucher, [("add", f"N{number}") for number in range(1200)])
    await outbox.pusher.push()
    assert set(await stand(mirror)) == {("pending", "group")}
    assert await push_all(mirror, group) == (1200, 0)


async def test_a_delete_is_decided_on_by_whoever_sees_its_code(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    """By the pulls of the connection that sees its voucher no more, the code does not exist."""
    await outbox.refresh()
    mirror.add_codes(voucher, ["NEW"], days_old=0)
    mirror.clock.advance(A_WHILE)
    await queue_late(mirror, group, voucher, [("delete", "NEW"), ("delete", "A")])
    await outbox.refresh()
    await outbox.pusher.push()
    assert await stand(mirror) == [("pending", "group")] * 2
    assert await push_all(mirror, group) == (2, 0)


async def test_a_change_that_is_refused_since_its_voucher_has_just_moved_goes_with_it(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    await outbox.refresh()
    await outbox.add(voucher, "NEW", "NEWER")
    mirror.world.withdraw(ACCESS_TOKEN, mirror.hotel.id)

    async def on_answer(record: RequestRecord) -> None:
        if record.operation is Operation.ADD_CODES:
            await mirror.execute(TO_GROUP)

    mirror.simulator.on_answer = on_answer
    report = await outbox.pusher.push()
    mirror.simulator.on_answer = None
    assert report.failed == 0
    assert {status for status, _ in await stand(mirror)} == {"pending"}
    await outbox.be_due()
    await outbox.pusher.push()
    assert await stand(mirror) == [("pending", "group")] * 2
    assert await push_all(mirror, group) == (2, 0)


@pytest.mark.parametrize("how", ["add made", "add lost", "delete made", "delete lost"])
async def test_a_change_of_unknown_outcome_is_looked_up_by_whoever_sees_its_voucher(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox, how: str
) -> None:
    """Sent while its voucher moved, and its answer lost: not even an operator could end it."""
    operation, is_made = how.split(maxsplit=1)[0], how.endswith("made")
    await outbox.refresh()
    await (outbox.add(voucher, "NEW") if operation == "add" else outbox.delete(voucher, "A"))
    kind = Operation.ADD_CODES if operation == "add" else Operation.DELETE_CODES
    mirror.simulator.faults.script(kind, Close(processed=is_made))
    await outbox.pusher.push()
    await mirror.execute(TO_GROUP)
    mirror.world.withdraw(ACCESS_TOKEN, mirror.hotel.id)
    mirror.clock.advance(A_WHILE)
    await outbox.be_due()
    await outbox.reconcile()
    assert await stand(mirror) == [("uncertain", "group")]
    await outbox.be_due()
    await push_all(mirror, group)
    assert await stand(mirror) == [("done", "group")]
    assert active(mirror).get((voucher.id, "NEW"), 0) == (operation == "add")
    assert len(mirror.requests(kind)) == (1 if is_made else 2)


async def test_what_the_api_said_was_made_is_not_made_again_by_whoever_has_its_voucher_then(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    """It lists no code of this value, as where it has changed that."""
    await outbox.refresh()
    await outbox.add(voucher, "NEW", "NEWER")
    mirror.simulator.faults.script(Operation.ADD_CODES, PartialAnswer(listed=1))
    await outbox.pusher.push()
    mirror.world.codes.remove(next(code.id for code in mirror.world.codes.truth.values() if code.value == "NEWER"))
    await mirror.execute(TO_GROUP)
    mirror.clock.advance(A_WHILE)
    await outbox.be_due()
    await outbox.reconcile()
    assert [status for status, _ in await stand(mirror)] == ["done", "failed"]


async def lose_unnoticed(mirror: Mirror, group: Connection, outbox: Outbox, voucher: Voucher) -> None:
    """The connection of the environment sees the hotel no more, and is refused; the group does."""
    await discover(group)
    await outbox.refresh()
    mirror.world.withdraw(ACCESS_TOKEN, mirror.hotel.id)
    await outbox.add(voucher, "NEW")
    await outbox.pusher.push()
    assert (outbox.pusher.waiting.discovery, await stand(mirror)) == (True, [("pending", "default")])


async def test_a_change_that_is_refused_since_access_was_lost_is_made_by_whoever_has_it(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    await lose_unnoticed(mirror, group, outbox, voucher)
    await outbox.refresh()
    assert not outbox.pusher.waiting.discovery
    await outbox.be_due()
    await outbox.pusher.push()
    assert await stand(mirror) == [("pending", "default")], "nobody has its voucher yet"
    await discover(group)
    await outbox.be_due()
    assert await push_all(mirror, group) == (1, 0)
    assert active(mirror)[voucher.id, "NEW"] == 1


async def test_a_change_that_nobody_may_make_fails_with_the_api_s_words(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    await lose_unnoticed(mirror, group, outbox, voucher)
    await outbox.refresh()
    await mirror.execute("UPDATE sync.skipped SET since = since - interval '1 hour'")
    await outbox.be_due()
    await outbox.pusher.push()
    assert await stand(mirror) == [("failed", "default")]
    assert (await outbox.rows())[0]["last_error"] == "Invalid VoucherId"


async def test_a_change_that_is_refused_although_its_voucher_is_listed_fails_after_a_discovery(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    await discover(group)
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(400, "Invalid VoucherId"), times=2)
    await outbox.pusher.push()
    assert (outbox.pusher.waiting.discovery, await stand(mirror)) == (True, [("pending", "default")])
    await outbox.refresh()
    await outbox.be_due()
    await outbox.pusher.push()
    assert await stand(mirror) == [("failed", "default")]


async def test_a_change_is_seldom_tried_again_while_no_discovery_ends(
    mirror: Mirror, group: Connection, outbox: Outbox, voucher: Voucher
) -> None:
    """As where the API refuses a connection each discovery: else its changes would take the whole budget."""
    await lose_unnoticed(mirror, group, outbox, voucher)
    outbox.freshness = replace(outbox.freshness, discovered_as_of=None)
    assert await mirror.rows(WAIT) == [{"seconds": 2}]
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET created_at = created_at - interval '2 minutes'"))
        await tx.execute(text("UPDATE mews.voucher_code_outbox_attempts SET settled_at = now() - interval '1 minute'"))
    await outbox.be_due()
    await outbox.pusher.push()
    assert await mirror.rows(WAIT) == [{"seconds": 60}]


async def test_a_change_that_is_refused_for_anything_else_fails_at_once(
    mirror: Mirror, group: Connection, voucher: Voucher, outbox: Outbox
) -> None:
    await discover(group)
    await outbox.refresh()
    await outbox.add(voucher, "NEW")
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(400, "Invalid ValidityEndUtc"))
    await outbox.pusher.push()
    assert (outbox.pusher.waiting.discovery, await stand(mirror)) == (False, [("failed", "default")])


async def test_a_delete_by_value_waits_for_a_pull_that_has_read_what_was_taken_over(
    mirror: Mirror, group: Connection, voucher: Voucher
) -> None:
    """A pull that began before the voucher was this connection's proves nothing of it, however late it was queued."""
    jobs = app.make_jobs(group, mirror.settings(sync_settle_after_s=0.001))
    await jobs.discover()
    mirror.add_codes(voucher, ["NEW"], days_old=0)
    await mirror.execute("UPDATE sync.connections SET paused_at = now() WHERE name = 'default'")
    await mirror.execute(DELETE, voucher_id=voucher.id)
    mirror.clock.advance(OVERLAP)
    await jobs.pull()
    await jobs.discover()
    await done_after_a_pull(mirror, jobs)


async def test_a_delete_by_value_waits_for_a_pull_that_has_read_what_has_become_known(
    mirror: Mirror, group: Connection
) -> None:
    jobs = app.make_jobs(group, mirror.settings(sync_settle_after_s=0.001))
    await jobs.discover()
    late = mirror.add_voucher("Late")
    mirror.add_codes(late, ["NEW"], days_old=0)
    await mirror.execute(DELETE, voucher_id=late.id)
    mirror.clock.advance(OVERLAP)
    await jobs.pull()
    await jobs.discover()
    await done_after_a_pull(mirror, jobs)


async def done_after_a_pull(mirror: Mirror, jobs: Jobs) -> None:
    await jobs.outbox.push_all()
    (row,) = await mirror.rows("SELECT status, last_error FROM mews.voucher_code_outbox")
    assert row["status"] == "pending", row["last_error"]
    await jobs.pull()
    async with as_daemon(mirror.connection.engine) as tx:
        await tx.execute(text("UPDATE mews.voucher_code_outbox SET next_attempt_at = now()"))
    await jobs.outbox.push_all()
    assert await stand(mirror) == [("done", "group")]
