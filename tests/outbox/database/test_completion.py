"""What was claimed is completed once, by the attempt that claimed it, and every attempt is noted."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, event

from sync.outbox import claims as product
from sync.outbox.claims import as_daemon
from sync.outbox.outcomes import Blocks, Completion
from sync.outbox.rules import Status, Uncertainty
from tests.support.claims import (
    BAD,
    BUSY,
    DONE,
    LOST,
    ONE,
    OTHER,
    SECOND,
    attempt_of,
    claim,
    complete_rows,
    complete_some,
)
from tests.support.database import CONNECTION, PATIENCE_S, rows, uuid
from tests.support.queue import FINISHED, LEASE, SENT_UTC, VOUCHER, Outbox, execute

QUEUE_MANY = """
INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value)
SELECT 'add', :voucher, generate_series(1, 500) RETURNING id
"""


async def test_a_claim_says_who_sends_what_and_since_when(outbox: Outbox) -> None:
    add, delete = await outbox.add(), await outbox.delete("SUMMER")
    async with as_daemon(outbox.engine) as tx:
        await product.claim(tx, attempt_of(), {add: None, delete: uuid(7)})
    for row_id, code_id in ((add, None), (delete, uuid(7))):
        row = await outbox.row(row_id)
        assert (row["status"], row["attempt_id"], row["attempts"]) == ("sending", ONE, 1)
        assert (row["first_sent_utc"], row["target_code_id"]) == (SENT_UTC, code_id)
        assert (row["voucher_code_id"], row["unknown_since_utc"]) == (None, None)
        assert row["sent_at"] is not None
    (attempt,) = (await outbox.open_attempts()).values()
    assert (attempt["id"], attempt["connection"], attempt["server_utc"]) == (ONE, CONNECTION, SENT_UTC)
    assert attempt["until"] - attempt["started_at"] == LEASE


async def test_a_second_claim_keeps_when_it_was_first_sent(outbox: Outbox) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    await complete_some(outbox, BUSY, add)
    async with as_daemon(outbox.engine) as tx:
        await product.claim(tx, attempt_of(OTHER, server_utc=SENT_UTC + SECOND), {add: None})
    row = await outbox.row(add)
    assert (row["first_sent_utc"], row["attempts"], row["attempt_id"]) == (SENT_UTC, 2, OTHER)


@pytest.mark.parametrize("completion", [DONE, LOST, BUSY, BAD])
async def test_only_the_attempt_that_claimed_a_row_completes_it(outbox: Outbox, completion: Completion) -> None:
    add, beside = await outbox.add(), await outbox.add()
    await claim(outbox, add)
    before = await outbox.row(add)
    assert await complete_some(outbox, completion, add, attempt_id=OTHER, codes={add: uuid(7)}) == 0
    assert await outbox.row(add) == before
    assert await complete_some(outbox, completion, add, beside, codes={add: uuid(7), beside: uuid(8)}) == 1
    row = await outbox.row(add)
    assert (row["status"], row["last_error"]) == (completion.status, completion.error)
    assert (row["request_id"], row["voucher_code_id"]) == (completion.request_id, uuid(7))
    assert (row["finished_at"] is not None) == (completion.status in FINISHED)
    assert await outbox.status(beside) is Status.PENDING
    now = await outbox.now()
    assert now - SECOND * PATIENCE_S < row["next_attempt_at"] - completion.wait <= now


@pytest.mark.parametrize("first", [DONE, BUSY, BAD])
async def test_an_attempt_completes_a_row_once(outbox: Outbox, first: Completion) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    await complete_some(outbox, first, add, codes={add: uuid(7)})
    before, noted = await outbox.row(add), await outbox.attempts(add)
    for again in (DONE, LOST, BUSY, BAD):
        assert await complete_some(outbox, again, add, codes={add: uuid(8)}) == 0
    assert await outbox.row(add) == before
    assert await outbox.attempts(add) == noted


async def test_an_attempt_whose_row_was_claimed_again_completes_nothing(outbox: Outbox) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    await complete_some(outbox, BUSY, add)
    await claim(outbox, add, attempt_id=OTHER)
    assert await complete_some(outbox, DONE, add, codes={add: uuid(7)}) == 0
    assert await outbox.status(add) is Status.SENDING
    assert await complete_some(outbox, DONE, add, attempt_id=OTHER, codes={add: uuid(8)}) == 1
    assert (await outbox.row(add))["voucher_code_id"] == uuid(8)


async def test_no_rows_are_completed_without_a_word(outbox: Outbox) -> None:
    assert await complete_some(outbox, DONE) == 0


async def test_every_attempt_is_noted(outbox: Outbox) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    sent_at = (await outbox.row(add))["sent_at"]
    await complete_some(outbox, BUSY, add)
    await claim(outbox, add, attempt_id=OTHER)
    await complete_some(outbox, DONE, add, attempt_id=OTHER, codes={add: uuid(7)})
    first, second = await outbox.attempts(add)
    assert (first["attempt_id"], first["sent_at"], first["outcome"]) == (ONE, sent_at, "not processed")
    assert (first["http_status"], first["message"], first["request_id"]) == (429, "too many requests", "request 1")
    assert (second["attempt_id"], second["outcome"], second["http_status"]) == (OTHER, "done", 200)
    assert (await outbox.row(add))["last_error"] is None


async def test_what_a_look_finds_is_noted_with_the_attempt_itself(outbox: Outbox) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    unknown = Uncertainty.UNKNOWN
    await complete_some(
        outbox, Completion(Status.UNCERTAIN, unknown, "failed", 500, "request 1", uncertain_because=unknown), add
    )
    (before,) = await outbox.attempts(add)
    assert await complete_some(outbox, Completion(Status.DONE, "done"), add, codes={add: uuid(7)}) == 1
    (after,) = await outbox.attempts(add)
    assert (before["outcome"], after["outcome"]) == ("unknown", "done")
    assert after["settled_at"] > before["settled_at"]
    assert (after["http_status"], after["message"], after["request_id"]) == (500, "failed", "request 1")
    assert (await outbox.row(add))["request_id"] == "request 1"


async def test_what_was_not_sent_leaves_no_attempt(outbox: Outbox) -> None:
    add = await outbox.add()
    async with as_daemon(outbox.engine) as tx:
        await product.claim_unsent(tx, ONE, [add])
        await complete_rows(tx, ONE, [add], Completion(Status.DONE, "done", was_sent=False), {add: uuid(7)})
    row = await outbox.row(add)
    assert (row["status"], row["attempts"], row["sent_at"], row["first_sent_utc"]) == ("done", 0, None, None)
    assert await outbox.attempts(add) == []


async def test_what_was_not_sent_is_counted_as_completed(outbox: Outbox) -> None:
    add = await outbox.add()
    async with as_daemon(outbox.engine) as tx:
        await product.claim_unsent(tx, ONE, [add])
        completed = await complete_rows(tx, ONE, [add], Completion(Status.FAILED, "failed", was_sent=False))
    assert (completed.counts, completed.refused) == ({Status.FAILED: 1}, {})


async def test_a_refused_attempt_is_noted_for_its_rows_which_stay_claimed(outbox: Outbox) -> None:
    mine, ended, other = [await outbox.add() for _ in range(3)]
    await claim(outbox, mine, ended)
    await claim(outbox, other, attempt_id=OTHER)
    await complete_some(outbox, BUSY, ended)
    for _ in range(2):
        assert await complete_some(outbox, replace(BAD, status=Status.SENDING), mine) == 0
    (noted,) = await outbox.attempts(mine)
    assert (noted["attempt_id"], noted["outcome"], noted["http_status"]) == (ONE, "refused", 400)
    assert (noted["message"], noted["request_id"]) == ("Invalid Value", "request 3")
    assert noted["sent_at"] == (await outbox.row(mine))["sent_at"]
    assert [one["outcome"] for one in await outbox.attempts(ended)] == ["not processed"]
    assert await outbox.attempts(other) == []
    assert await outbox.status(mine) is Status.SENDING


async def test_an_attempt_ends_with_its_last_open_row(outbox: Outbox) -> None:
    first, last = await outbox.add(), await outbox.add()
    await claim(outbox, first, last)
    await claim(outbox, await outbox.add(), attempt_id=OTHER)
    for completion, row_id, is_open in [(BUSY, first, True), (LOST, last, True), (BAD, last, False)]:
        await complete_some(outbox, completion, row_id)
        assert set(await outbox.open_attempts()) == ({ONE, OTHER} if is_open else {OTHER})


async def test_rows_move_between_attempts_that_both_get_time(outbox: Outbox) -> None:
    moving, staying, ended, theirs = [await outbox.add() for _ in range(4)]
    await claim(outbox, moving, staying, ended)
    await claim(outbox, theirs, attempt_id=OTHER)
    await complete_some(outbox, LOST, ended)
    await execute(outbox.engine, "UPDATE sync.attempts SET until = now() - interval '1 hour'")
    async with as_daemon(outbox.engine) as tx:
        rows_ = [moving, ended, theirs]
        assert await product.move(tx, ONE, attempt_of(OTHER), rows_, is_sent=True) == {moving}
    attempts = [(await outbox.row(row_id))["attempt_id"] for row_id in (moving, staying, ended, theirs)]
    assert attempts == [OTHER, ONE, ONE, OTHER]
    assert (await outbox.row(moving))["attempts"] == 2
    now = await outbox.now()
    assert all(now < attempt["until"] <= now + LEASE for attempt in (await outbox.open_attempts()).values())
    assert await complete_some(outbox, DONE, moving, codes={moving: uuid(7)}) == 0
    assert await complete_some(outbox, DONE, moving, attempt_id=OTHER, codes={moving: uuid(7)}) == 1


async def test_rows_that_stay_claimed_go_back_to_the_attempt_that_they_came_from(outbox: Outbox) -> None:
    rows_ = [await outbox.add(), await outbox.add()]
    await claim(outbox, *rows_)
    async with as_daemon(outbox.engine) as tx:
        await product.begin_attempt(tx, attempt_of(OTHER))
        await product.move(tx, ONE, attempt_of(OTHER), rows_, is_sent=True)
        stays = replace(BAD, status=Status.SENDING)
        completed = await complete_rows(tx, OTHER, rows_, stays, returning=attempt_of())
    assert (completed.counts, completed.refused) == ({}, {})
    for row_id in rows_:
        row = await outbox.row(row_id)
        assert (row["status"], row["attempt_id"], row["attempts"], row["last_error"]) == ("sending", ONE, 2, None)
        assert [one["attempt_id"] for one in await outbox.attempts(row_id)] == [OTHER]
    assert set(await outbox.open_attempts()) == {ONE}


async def test_why_a_row_is_uncertain_stands_in_it_as_long_as_it_is(outbox: Outbox) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    for because in Uncertainty:
        await complete_some(outbox, replace(LOST, uncertain_because=because), add)
        assert (await outbox.row(add))["uncertain_because"] == because
    await complete_some(outbox, BUSY, add)
    assert (await outbox.row(add))["uncertain_because"] is None


async def test_blocks_are_counted_in_the_row_until_somebody_counts_anew(outbox: Outbox) -> None:
    add = await outbox.add()
    for number, blocks in enumerate((Blocks(1, 0), None, Blocks(2, 1), Blocks(0, 0)), 1):
        await claim(outbox, add, attempt_id=uuid(number))
        before = await outbox.row(add)
        await complete_some(outbox, replace(BUSY, blocks=blocks), add, attempt_id=uuid(number))
        row = await outbox.row(add)
        expected = blocks or (before["blocked_alone"], before["singled_out"])
        assert (row["blocked_alone"], row["singled_out"]) == tuple(expected)


async def test_when_a_row_was_first_sent_stays_whatever_becomes_of_it(outbox: Outbox) -> None:
    add = await outbox.add()
    await claim(outbox, add)
    first = await outbox.row(add)
    await complete_some(outbox, BUSY, add)
    await claim(outbox, add, attempt_id=OTHER)
    again = await outbox.row(add)
    assert first["first_sent_at"] == first["sent_at"] == again["first_sent_at"] < again["sent_at"]


def looped(plan: dict[str, Any]) -> Iterator[float]:
    """How many rows each step of a plan has read, those that it left out too, with all its repetitions."""
    for step in plan.get("Plans", []):
        yield from looped(step)
    yield (plan["Actual Rows"] + plan.get("Rows Removed by Join Filter", 0)) * plan["Actual Loops"]


async def test_a_batch_is_completed_in_steps_that_each_read_its_rows_once(unused: Outbox) -> None:
    """Of rows that it has just locked PostgreSQL expects a handful, and would compare each with all others."""
    row_ids = [row["id"] for row in await rows(unused.engine, QUEUE_MANY, voucher=VOUCHER)]
    await claim(unused, *row_ids)
    plans: list[dict[str, Any]] = []

    def explain(connection: Connection, _cursor: object, statement: str, parameters: Any, *_others: object) -> None:
        if "INSERT INTO mews.voucher_code_outbox_attempts" in statement:
            cursor = connection.connection.cursor()
            cursor.execute("SAVEPOINT before")
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT json) {statement}", parameters)
            (found,) = cursor.fetchone() or ([],)
            plans.extend(one["Plan"] for one in found)
            cursor.execute("ROLLBACK TO SAVEPOINT before")
            cursor.close()

    event.listen(unused.engine.sync_engine, "before_cursor_execute", explain)
    codes = {row_id: uuid(row_id) for row_id in row_ids}
    assert await complete_some(unused, DONE, *row_ids, codes=codes) == len(row_ids)
    assert plans
    assert max(max(looped(plan)) for plan in plans) == len(row_ids)
