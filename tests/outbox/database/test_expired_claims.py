"""Claims of the dead expire, and are looked up after a pause."""

import asyncio
from datetime import timedelta
from uuid import UUID

from sync.outbox import claims as product
from sync.outbox import uncertain
from sync.outbox.claims import Lane, as_daemon
from sync.outbox.outcomes import Completion
from sync.outbox.rules import Operation, Status, Uncertain, Uncertainty
from sync.outbox.unfinished import load_unfinished
from tests.support.claims import LOST, ONE, OTHER, attempt_of, claim, complete_rows, complete_some
from tests.support.claims import expire_claims as expire_claims_in
from tests.support.database import CONNECTION, PATIENCE_S, blocked, uuid
from tests.support.instants import utc
from tests.support.queue import HOTEL, OTHER_VOUCHER, SENT_UTC, VOUCHER, Outbox, as_user, change, execute

WAIT = timedelta(seconds=15)


async def expire(outbox: Outbox, attempt_id: UUID = ONE) -> None:
    """The time of an attempt is over."""
    await execute(
        outbox.engine, "UPDATE sync.attempts SET until = now() - interval '1 ms' WHERE id = :id", id=attempt_id
    )


async def expire_claims(outbox: Outbox, connection: str = CONNECTION) -> int:
    async with as_daemon(outbox.engine) as tx:
        return await expire_claims_in(tx, connection, WAIT)


async def load_uncertain(outbox: Outbox, connection: str = CONNECTION) -> list[Uncertain]:
    async with as_daemon(outbox.engine) as tx:
        return await uncertain.load_uncertain(tx, connection)


async def test_a_claim_expires_once_its_time_is_over_and_is_looked_up_after_a_pause(outbox: Outbox) -> None:
    row_ids = [await outbox.add(), await outbox.add()]
    await claim(outbox, *row_ids)
    assert await expire_claims(outbox) == 0
    await expire(outbox)
    assert await expire_claims(outbox) == 2
    for row_id in row_ids:
        row, now = await outbox.row(row_id), await outbox.now()
        assert (row["status"], row["attempt_id"], row["attempts"]) == ("uncertain", ONE, 1)
        assert "ended before it had noted an answer" in row["last_error"]
        assert now < row["next_attempt_at"] <= now + WAIT
    assert await expire_claims(outbox) == 0
    assert await load_uncertain(outbox) == []
    assert set(await outbox.open_attempts()) == {ONE}


async def test_a_row_that_is_moved_to_a_living_attempt_meanwhile_stays_claimed(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await claim(outbox, row_id)
    await expire(outbox)
    async with asyncio.timeout(PATIENCE_S):
        async with as_daemon(outbox.engine) as tx:
            await product.begin_attempt(tx, attempt_of(OTHER))
            assert await product.move(tx, ONE, attempt_of(OTHER), [row_id]) == {row_id}
            rescuer = asyncio.create_task(expire_claims(outbox))
            await blocked(outbox.engine, rescuer)
        assert await rescuer == 0
    assert await outbox.statuses() == ["sending"]


async def test_a_claim_of_a_row_that_a_user_has_locked_expires_later_and_its_neighbours_at_once(outbox: Outbox) -> None:
    held, beside = await outbox.add(), await outbox.add()
    await claim(outbox, held, beside)
    await expire(outbox)
    async with asyncio.timeout(PATIENCE_S), as_user(outbox.engine) as tx:
        await change(tx, held, note="not committed yet")
        assert await expire_claims(outbox) == 1
        assert await outbox.statuses() == ["sending", "uncertain"]
    assert await expire_claims(outbox) == 1


async def test_only_claims_of_this_connection_expire(outbox: Outbox) -> None:
    await outbox.know(OTHER_VOUCHER.int, connection="other")
    dead, alive, theirs = await outbox.add(), await outbox.add(), await outbox.add(voucher_id=OTHER_VOUCHER)
    for row_id, attempt_id, connection in [
        (dead, ONE, CONNECTION),
        (alive, OTHER, CONNECTION),
        (theirs, uuid(3), "other"),
    ]:
        await claim(outbox, row_id, attempt_id=attempt_id, lane=Lane(connection, Operation.ADD, HOTEL))
    await expire(outbox, ONE)
    await expire(outbox, uuid(3))
    assert await expire_claims(outbox) == 1
    assert await outbox.statuses() == ["uncertain", "sending", "sending"]


async def test_what_was_completed_in_time_does_not_expire(outbox: Outbox) -> None:
    row_ids = [await outbox.add() for _ in range(5)]
    await claim(outbox, *row_ids)
    ended = (Status.DONE, Status.FAILED, Status.PENDING, Status.UNCERTAIN)
    async with as_daemon(outbox.engine) as tx:
        for row_id, status in zip(row_ids, ended, strict=False):
            because = Uncertainty.UNKNOWN if status is Status.UNCERTAIN else None
            completion = Completion(status, "so", uncertain_because=because)
            await complete_rows(tx, ONE, [row_id], completion, {row_id: uuid(7)})
    before = [await outbox.row(row_id) for row_id in row_ids[:4]]
    await expire(outbox)
    assert await expire_claims(outbox) == 1
    assert [await outbox.row(row_id) for row_id in row_ids[:4]] == before


async def test_who_was_taken_for_dead_may_still_complete_what_it_claimed(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await claim(outbox, row_id)
    await expire(outbox)
    await expire_claims(outbox)
    assert await complete_some(outbox, Completion(Status.PENDING, "so"), row_id, attempt_id=OTHER) == 0
    assert await complete_some(outbox, Completion(Status.DONE, "done"), row_id, codes={row_id: uuid(7)}) == 1
    assert await outbox.status(row_id) is Status.DONE


async def test_uncertain_rows_are_looked_up_when_due_the_longest_due_first(outbox: Outbox) -> None:
    row_ids = [await outbox.add() for _ in range(4)]
    await claim(outbox, *row_ids)
    await expire(outbox)
    await expire_claims(outbox)
    for row_id, day in zip(row_ids[:3], (2, 1, 2), strict=True):
        await outbox.set(row_id, next_attempt_at=utc(2026, 1, day))
    found = await load_uncertain(outbox)
    assert [one.id for one in found] == [row_ids[1], row_ids[0], row_ids[2]]
    words = found[0].last_error
    expected = (row_ids[1], Operation.ADD, ONE, 1, VOUCHER, None, SENT_UTC, Uncertainty.EXPIRED, words, 0, 0)
    assert found[0] == Uncertain(*expected)
    assert isinstance(found[0].operation, Operation)
    assert isinstance(found[0].uncertain_because, Uncertainty)
    assert await load_uncertain(outbox, "other") == []


async def test_a_look_knows_what_the_answer_seemed_to_prove(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await claim(outbox, row_id)
    refused = Completion(Status.UNCERTAIN, "refused", "a double", uncertain_because=Uncertainty.REFUSED)
    await complete_some(outbox, refused, row_id)
    (found,) = await load_uncertain(outbox)
    assert (found.uncertain_because, found.last_error) == (Uncertainty.REFUSED, "a double")
    assert found.unknown_since_utc == SENT_UTC


async def test_a_claim_whose_attempt_is_gone_expires(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await claim(outbox, row_id)
    await execute(outbox.engine, "DELETE FROM sync.attempts")
    assert await expire_claims(outbox) == 1
    await outbox.set(row_id, next_attempt_at=utc(2026, 1, 1))
    (found,) = await load_uncertain(outbox)
    assert (found.id, found.unknown_since_utc) == (row_id, SENT_UTC)


async def test_an_attempt_of_the_dead_without_any_row_is_forgotten(outbox: Outbox) -> None:
    row_ids = [await outbox.add(), await outbox.add()]
    await claim(outbox, *row_ids)
    async with as_daemon(outbox.engine) as tx:
        await product.begin_attempt(tx, attempt_of(OTHER))
        await product.move(tx, ONE, attempt_of(OTHER), row_ids)
    await expire_claims(outbox)
    assert set(await outbox.open_attempts()) == {ONE, OTHER}
    await expire(outbox, ONE)
    await expire(outbox, OTHER)
    assert await expire_claims(outbox) == 2
    assert set(await outbox.open_attempts()) == {OTHER}


async def test_it_stays_known_since_when_an_outcome_is_unknown(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await claim(outbox, row_id)
    await expire(outbox)
    await expire_claims(outbox)
    later = SENT_UTC + timedelta(hours=1)
    async with as_daemon(outbox.engine) as tx:
        await complete_rows(tx, ONE, [row_id], Completion(Status.PENDING, "looked up"))
        await product.claim(tx, attempt_of(OTHER, server_utc=later), {row_id: None})
        await complete_rows(tx, OTHER, [row_id], LOST)
    assert (await outbox.row(row_id))["unknown_since_utc"] == SENT_UTC


async def abandoned(outbox: Outbox) -> set[str]:
    async with as_daemon(outbox.engine) as tx:
        return set((await load_unfinished(tx)).abandoned)


async def test_what_nobody_works_for_is_looked_after_until_its_claims_have_expired(outbox: Outbox) -> None:
    """Then it waits for whoever comes to work for it: else each poll of each replica would look at it, for months."""
    row_id = await outbox.add()
    await claim(outbox, row_id)
    await execute(outbox.engine, "UPDATE sync.connections SET removed_at = now()")
    assert await abandoned(outbox) == {CONNECTION}
    await expire(outbox)
    await expire_claims(outbox)
    assert await outbox.status(row_id) is Status.UNCERTAIN
    assert await abandoned(outbox) == set()
    await execute(
        outbox.engine,
        "INSERT INTO sync.attempts (id, connection, until, server_utc) VALUES (:id, :name, now(), now())",
        id=OTHER, name=CONNECTION,
    )  # fmt: skip
    assert await abandoned(outbox) == {CONNECTION}, "an attempt without rows is to be forgotten"
