"""A row of the outbox that something of a user's refuses: it is sent once at most, and its neighbours go on."""

from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest

from sync.demo.simulator import Operation, PartialAnswer, RequestRecord
from tests.support.mirror import Mirror
from tests.support.outbox import A_WHILE, Outbox, active

REFUSED_ROW = "SECRET-REFUSED"
GUARD = """
CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.value = 'SECRET-REFUSED' AND ({condition}) THEN RAISE EXCEPTION 'nobody touches %', NEW.value; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON mews.voucher_code_outbox FOR EACH ROW EXECUTE FUNCTION public.guard()
"""
Guard = Callable[[str], Awaitable[None]]


@pytest.fixture
async def guard(mirror: Mirror, database_url: str) -> AsyncIterator[Guard]:
    """Lets a trigger refuse one row under some condition; none, and it is gone."""

    async def set_guard(condition: str) -> None:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute("DROP FUNCTION IF EXISTS public.guard CASCADE")
            if condition:
                await connection.execute(GUARD.format(condition=condition).encode())

    yield set_guard
    await set_guard("")


async def look_again(mirror: Mirror, outbox: Outbox) -> None:
    """Lets all waits be over, and looks."""
    mirror.clock.advance(A_WHILE)
    await outbox.be_due()
    await outbox.refresh()
    await outbox.reconcile()


CONDITIONS = ["NEW.status = 'sending'", "NEW.status = 'done'", "NEW.status IN ('done', 'uncertain')", "true"]


@pytest.mark.sampled
@pytest.mark.parametrize("condition", CONDITIONS)
async def test_adds_are_made_once_around_one_that_is_refused(
    mirror: Mirror, outbox: Outbox, guard: Guard, condition: str
) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, "A", REFUSED_ROW, "B")
    await guard(condition)
    reports = [await outbox.pusher.push() for _ in range(3)]
    assert sum(report.done for report in reports) == 2
    was_sent = condition in {CONDITIONS[1], CONDITIONS[2]}
    assert active(mirror) == {(voucher.id, value): 1 for value in ("A", "B", *([REFUSED_ROW] if was_sent else []))}
    rows = {row["value"]: row for row in await outbox.rows()}
    assert (rows["A"]["status"], rows["B"]["status"]) == ("done", "done")
    assert REFUSED_ROW not in "".join(row["last_error"] or "" for row in rows.values())
    runs = await mirror.rows("SELECT error FROM sync.runs")
    assert not [run for run in runs if REFUSED_ROW in (run["error"] or "")]

    await guard("")
    mirror.connection.set_aside.until_s.clear()
    await outbox.outlive_claims()
    for _ in range(2):
        await look_again(mirror, outbox)
        await outbox.pusher.push()
    assert await outbox.statuses() == ["done"] * 3
    assert active(mirror) == {(voucher.id, value): 1 for value in ("A", REFUSED_ROW, "B")}


@pytest.mark.sampled
@pytest.mark.parametrize("condition", CONDITIONS)
async def test_deletes_are_made_around_one_that_is_refused(
    mirror: Mirror, outbox: Outbox, guard: Guard, condition: str
) -> None:
    voucher = mirror.add_voucher()
    mirror.add_codes(voucher, ["A", REFUSED_ROW, "B"])
    await outbox.refresh()
    await outbox.delete(voucher, "A", REFUSED_ROW, "B")
    await guard(condition)
    for _ in range(2):
        await outbox.pusher.push()
    rows = {row["value"]: row for row in await outbox.rows()}
    assert (rows["A"]["status"], rows["B"]["status"]) == ("done", "done")

    await guard("")
    mirror.connection.set_aside.until_s.clear()
    await outbox.outlive_claims()
    for _ in range(2):
        await look_again(mirror, outbox)
        await outbox.pusher.push()
    assert await outbox.statuses() == ["done"] * 3
    assert active(mirror) == {}


@pytest.mark.long
async def test_a_row_that_is_refused_costs_no_call_while_it_is(mirror: Mirror, outbox: Outbox, guard: Guard) -> None:
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, REFUSED_ROW)
    await guard("NEW.status IN ('done', 'uncertain')")
    await outbox.pusher.push()
    await outbox.outlive_claims()
    await outbox.reconcile()
    before = len(mirror.requests())
    for _ in range(5):
        await outbox.reconcile()
        await outbox.pusher.push()
    assert len(mirror.requests()) == before
    assert await outbox.statuses() == ["sending"]


async def test_what_the_api_keeps_under_another_value_is_not_made_again_once_it_may_be_noted(
    mirror: Mirror, outbox: Outbox, guard: Guard
) -> None:
    mirror.simulator.behaviour.allow_duplicates = True
    voucher = mirror.add_voucher()
    await outbox.refresh()
    await outbox.add(voucher, REFUSED_ROW)

    async def in_small_letters(record: RequestRecord) -> None:
        for code in [*mirror.world.codes.truth.values()] if record.operation is Operation.ADD_CODES else []:
            mirror.world.edit_code(code.id, value=REFUSED_ROW.lower())

    mirror.simulator.on_answer = in_small_letters
    mirror.simulator.faults.script(Operation.ADD_CODES, PartialAnswer(listed=0))
    await guard("NEW.status = 'failed'")
    await outbox.pusher.push()
    await look_again(mirror, outbox)
    (row,) = await outbox.rows()
    assert (row["status"], row["uncertain_because"]) == ("uncertain", "unlisted")
    assert "refuses to have this row changed" in row["last_error"]

    await guard("")
    await look_again(mirror, outbox)
    await outbox.pusher.push()
    assert await outbox.statuses() == ["failed"]
    assert active(mirror) == {(voucher.id, REFUSED_ROW.lower()): 1}
