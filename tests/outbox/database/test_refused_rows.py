"""What users put on the outbox's table refuses single rows: their neighbours go on, and nothing is sent unclaimed."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from sync.mirror.freshness import MirrorFreshness
from sync.outbox import retention, routing
from sync.outbox import uncertain as outbox_uncertain
from sync.outbox.claims import as_daemon
from sync.outbox.delete_guard import DeleteGuardRule
from sync.outbox.outcomes import Completion
from sync.outbox.rules import Status
from tests.support.claims import BAD, BUSY, DONE, LOST, claim, claim_due_now, complete_rows, expire_claims, sent
from tests.support.database import CONNECTION, code, rows, store, uuid
from tests.support.queue import ADDS, DELETES, SENT_UTC, UNKNOWN_VOUCHER, Outbox, execute

REFUSED_ROW = "SECRET-REFUSED"
GUARD = """
CREATE FUNCTION public.guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.value = 'SECRET-REFUSED' AND ({condition}) THEN {act}; END IF;
  RETURN NEW;
END $$
"""
REFUSE = "RAISE EXCEPTION 'nobody touches %', NEW.value"
TRIGGER = "CREATE TRIGGER {name} BEFORE UPDATE ON mews.voucher_code_outbox FOR EACH ROW EXECUTE FUNCTION public.guard()"
LATE = (
    "CREATE CONSTRAINT TRIGGER guard AFTER UPDATE ON mews.voucher_code_outbox DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION public.guard()"
)
CHECK = "ALTER TABLE mews.voucher_code_outbox ADD CONSTRAINT guard CHECK (value <> 'SECRET-REFUSED' OR {condition})"
CLEAN = """
DROP TRIGGER IF EXISTS guard ON mews.voucher_code_outbox;
DROP TRIGGER IF EXISTS a_guard ON mews.voucher_code_outbox;
DROP TRIGGER IF EXISTS z_guard ON mews.voucher_code_outbox;
DROP FUNCTION IF EXISTS public.guard() CASCADE;
ALTER TABLE mews.voucher_code_outbox DROP CONSTRAINT IF EXISTS guard;
DROP INDEX IF EXISTS mews.guard;
DROP TABLE IF EXISTS public.about_changes
"""
Guard = Callable[..., Any]


@pytest.fixture
async def guarded(outbox: Outbox, database_url: str) -> AsyncIterator[Guard]:
    """Puts things of a user's on the table for one test."""

    async def run(*statements: str) -> None:
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            for statement in statements:
                await connection.execute(statement.encode())

    yield run
    await run(CLEAN)


def refusing(condition: str = "true", act: str = REFUSE, trigger: str = TRIGGER, name: str = "guard") -> list[str]:
    """A trigger of a user's that refuses one row where something is about to become of it."""
    return [GUARD.format(condition=condition, act=act), trigger.format(name=name)]


async def queue_three(outbox: Outbox) -> tuple[int, int, int]:
    """A row that will be refused, between two others."""
    return await outbox.add("FIRST"), await outbox.add(REFUSED_ROW), await outbox.add("LAST")


REFUSALS: dict[str, tuple[list[str], str]] = {
    "a trigger": (refusing("NEW.status = 'sending'"), "P0001: RaiseException in function guard"),
    "a trigger before ours": (refusing("NEW.status = 'sending'", name="a_guard"), "P0001"),
    "a trigger behind ours": (refusing("NEW.status = 'sending'", name="z_guard"), "P0001"),
    "a trigger at the commit": (refusing("NEW.status = 'sending'", trigger=LATE), "P0001"),
    "a trigger without a word": (refusing("NEW.status = 'sending'", act="RETURN NULL"), "without a word"),
    "a trigger that undoes it": (refusing("NEW.status = 'sending'", act="NEW.status := 'pending'"), "without a word"),
    **{
        f"a trigger that failed elsewhere, {code}": (
            refusing("NEW.status = 'sending'", act=f"RAISE '%', NEW.value USING ERRCODE = '{code}'"),
            f"{code}: ",
        )
        for code in ("08001", "53300", "25006", "57014", "55P03", "XX000")
    },
    "a constraint": ([CHECK.format(condition="status <> 'sending'")], "23514: CheckViolation, constraint guard"),
    "an index": (
        [
            "CREATE INDEX guard ON mews.voucher_code_outbox "
            "((1 / (value <> 'SECRET-REFUSED' OR status <> 'sending')::int))"
        ],
        "22012: DivisionByZero",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSALS)
async def test_what_cannot_be_claimed_is_not_sent_and_says_why_and_its_neighbours_are(
    outbox: Outbox, guarded: Guard, kind: str
) -> None:
    first, refused_row, last = await queue_three(outbox)
    statements, words = REFUSALS[kind]
    await guarded(*statements)
    claimed = await claim_due_now(outbox, ADDS)
    assert (sent(claimed), list(claimed.set_aside)) == ([first, last], [])
    row = await outbox.row(refused_row)
    assert row["status"] == "pending"
    assert words in row["last_error"]
    assert REFUSED_ROW not in row["last_error"]
    assert row["next_attempt_at"] > await outbox.now() + timedelta(minutes=4)
    assert sent(await claim_due_now(outbox, ADDS)) == []


@pytest.mark.parametrize("act", [REFUSE, "RETURN NULL"])
async def test_what_takes_no_note_of_anything_is_named_and_left_out(outbox: Outbox, guarded: Guard, act: str) -> None:
    first, refused_row, last = await queue_three(outbox)
    await guarded(*refusing(act=act))
    claimed = await claim_due_now(outbox, ADDS)
    assert (sent(claimed), list(claimed.set_aside)) == ([first, last], [refused_row])
    again = await claim_due_now(outbox, ADDS, without=[refused_row])
    assert (sent(again), list(again.set_aside)) == ([], [])


async def test_all_may_be_refused(outbox: Outbox, guarded: Guard) -> None:
    for number in range(20):
        await outbox.add(f"{number}")
    await guarded("ALTER TABLE mews.voucher_code_outbox ADD CONSTRAINT guard CHECK (status <> 'sending')")
    assert sent(await claim_due_now(outbox, ADDS)) == []
    assert await outbox.statuses() == ["pending"] * 20
    assert await outbox.open_attempts() == {}


@pytest.mark.parametrize("completion", [DONE, BUSY, BAD])
@pytest.mark.parametrize("kind", ["trigger", "constraint", "silent", "undone", "late"])
async def test_what_was_sent_and_cannot_be_completed_rests_uncertain(
    outbox: Outbox, guarded: Guard, completion: Completion, kind: str
) -> None:
    row_ids = await queue_three(outbox)
    await claim(outbox, *row_ids)
    condition = f"status = '{completion.status}'"
    match kind:
        case "trigger":
            await guarded(*refusing(f"NEW.{condition}"))
        case "constraint":
            await guarded(CHECK.format(condition=f"NOT {condition}"))
        case "silent":
            await guarded(*refusing(f"NEW.{condition}", act="RETURN NULL"))
        case "undone":
            await guarded(*refusing(f"NEW.{condition}", act="NEW.status := OLD.status; NEW.finished_at := NULL"))
        case _:
            await guarded(*refusing(f"NEW.{condition}", trigger=LATE))
    async with as_daemon(outbox.engine) as tx:
        codes = {row_id: uuid(row_id) for row_id in row_ids}
        completed = await complete_rows(tx, uuid(1), row_ids, completion, codes)
    _, refused_row, _ = row_ids
    assert (completed.counts, completed.refused) == ({completion.status: 2, Status.UNCERTAIN: 1}, {})
    assert await outbox.statuses() == [completion.status, "uncertain", completion.status]
    row = await outbox.row(refused_row)
    assert "on the table of the outbox" in row["last_error"]
    assert REFUSED_ROW not in row["last_error"]
    assert (row["unknown_since_utc"], row["uncertain_because"]) == (SENT_UTC, "unwritten")
    assert sent(await claim_due_now(outbox, ADDS)) == []


async def test_what_was_sent_and_takes_no_note_at_all_is_never_sent_again(outbox: Outbox, guarded: Guard) -> None:
    row_ids = await queue_three(outbox)
    await claim(outbox, *row_ids)
    await guarded(*refusing())
    async with as_daemon(outbox.engine) as tx:
        completed = await complete_rows(tx, uuid(1), row_ids, DONE, {row_id: uuid(row_id) for row_id in row_ids})
    assert list(completed.refused) == [row_ids[1]]
    await execute(outbox.engine, "UPDATE sync.attempts SET until = now() - interval '1 hour'")
    async with as_daemon(outbox.engine) as tx:
        assert await expire_claims(tx, CONNECTION, timedelta()) == 0
    assert await outbox.statuses() == ["done", "sending", "done"]
    assert sent(await claim_due_now(outbox, ADDS)) == []
    await guarded(CLEAN)
    async with as_daemon(outbox.engine) as tx:
        assert await expire_claims(tx, CONNECTION, timedelta()) == 1
        (uncertain,) = await outbox_uncertain.load_uncertain(tx, CONNECTION)
        assert uncertain.id == row_ids[1]
        assert await outbox_uncertain.load_uncertain(tx, CONNECTION, without=[row_ids[1]]) == []


async def test_claims_of_the_dead_expire_around_one_that_is_refused(outbox: Outbox, guarded: Guard) -> None:
    row_ids = await queue_three(outbox)
    await claim(outbox, *row_ids)
    await execute(outbox.engine, "UPDATE sync.attempts SET until = now() - interval '1 hour'")
    await guarded(*refusing())
    async with as_daemon(outbox.engine) as tx:
        assert await expire_claims(tx, CONNECTION, timedelta()) == 2
    assert await outbox.statuses() == ["uncertain", "sending", "uncertain"]


async def test_deletes_are_held_around_one_that_is_refused_and_that_one_is_not_sent_either(
    outbox: Outbox, guarded: Guard
) -> None:
    values = ["A", REFUSED_ROW, "C"]
    await store(outbox.engine, *(code(number, value) for number, value in enumerate(values, 1)))
    row_ids = [await outbox.delete(value) for value in values]
    await guarded(*refusing("NEW.status = 'held'"))
    rule = DeleteGuardRule(share=0.2, at_least=3, window=timedelta(minutes=10))
    claimed = await claim_due_now(outbox, DELETES, MirrorFreshness(), rule=rule)
    assert (sent(claimed), claimed.held, list(claimed.set_aside)) == ([], 2, [row_ids[1]])
    assert await outbox.statuses() == ["held", "pending", "held"]


async def test_unassigned_rows_find_their_connection_or_fail_around_one_that_is_refused(
    outbox: Outbox, guarded: Guard
) -> None:
    for value in ("A", REFUSED_ROW, "C"):
        await outbox.add(value, voucher_id=UNKNOWN_VOUCHER)
    gone = uuid(1998)
    for value in ("A", REFUSED_ROW, "C"):
        await outbox.add(value, voucher_id=gone)
    await guarded(*refusing())
    await outbox.know(UNKNOWN_VOUCHER.int)
    async with as_daemon(outbox.engine) as tx:
        await routing.assign(tx, CONNECTION)
        now = await outbox.now()
        await routing.fail_unknown(tx, CONNECTION, discovered_as_of=now, caught_up_as_of=now)
    found = await rows(outbox.engine, "SELECT status, connection FROM mews.voucher_code_outbox ORDER BY id")
    assert [tuple(row.values()) for row in found] == [
        ("pending", CONNECTION), ("pending", None), ("pending", CONNECTION),
        ("failed", None), ("pending", None), ("failed", None),
    ]  # fmt: skip


async def test_old_rows_are_pruned_around_one_that_a_table_of_a_user_s_refers_to(
    outbox: Outbox, guarded: Guard
) -> None:
    row_ids = await queue_three(outbox)
    for row_id in row_ids:
        await outbox.bring(row_id, Status.DONE)
    await guarded(
        "CREATE TABLE public.about_changes (change bigint REFERENCES mews.voucher_code_outbox)",
        f"INSERT INTO public.about_changes VALUES ({row_ids[1]})",
    )
    async with as_daemon(outbox.engine) as tx:
        assert (await retention.prune(tx, timedelta())).count == 2
    assert len(await outbox.statuses()) == 1


async def test_a_row_that_somebody_refers_to_just_now_is_claimed_all_the_same(outbox: Outbox, guarded: Guard) -> None:
    row_id = await outbox.add()
    await guarded("CREATE TABLE public.about_changes (change bigint REFERENCES mews.voucher_code_outbox)")
    async with outbox.engine.begin() as tx:
        await tx.execute(text("INSERT INTO public.about_changes VALUES (:id)"), {"id": row_id})
        assert sent(await claim_due_now(outbox, ADDS)) == [row_id]


@pytest.mark.parametrize("completion", [DONE, LOST, BUSY, BAD])
async def test_a_user_s_lock_on_one_row_keeps_no_other_from_being_completed(
    outbox: Outbox, completion: Completion
) -> None:
    row_ids = await queue_three(outbox)
    await claim(outbox, *row_ids)
    async with outbox.engine.begin() as user_tx:
        await user_tx.execute(
            text("SELECT 1 FROM mews.voucher_code_outbox WHERE id = :id FOR UPDATE"), {"id": row_ids[1]}
        )
        async with as_daemon(outbox.engine) as tx:
            codes = {row_id: uuid(row_id) for row_id in row_ids}
            completed = await complete_rows(tx, uuid(1), row_ids, completion, codes)
        assert (completed.counts, completed.refused) == ({completion.status: 2}, {})
    assert await outbox.statuses() == [completion.status, "sending", completion.status]
    assert list(await outbox.open_attempts()) == [uuid(1)]
