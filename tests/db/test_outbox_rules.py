"""The database itself holds users and daemon to the outbox's rules, and says which rule was broken."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy import CheckConstraint, Integer, Text, text
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sync.db.engine import make_engine, transaction
from sync.db.listen import CHANNEL
from sync.db.migrations import migrate
from sync.db.outbox import Lane, as_daemon, begin_attempt, claim, lock_due
from sync.db.outbox_tables import outbox as outbox_table
from sync.db.schema import metadata
from sync.db.tables import TIMESTAMP
from sync.model.errors import DatabaseError
from sync.model.outbox import MOVES, USER_MOVES, Operation, Status
from tests.db.outbox_rig import (
    HOTEL,
    OTHER_VOUCHER,
    SENT_UTC,
    UNFINISHED,
    UNKNOWN_VOUCHER,
    VOUCHER,
    Outbox,
    change,
    emptied,
    is_allowed,
    move,
    queue,
)
from tests.db.rig import CONNECTION, PATIENCE_S, blocked, code, execute, rows, store, uuid
from tests.support.instants import utc
from tests.support.postgres import new_database

ADDS = Lane(CONNECTION, Operation.ADD, HOTEL)
PAIRS = list(product(Status, Status))
PASSWORD = "not-a-secret"


@pytest.fixture(scope="module")
def database_url(server_url: str, template: str) -> Iterator[str]:
    """One database for all these tests: a copy for each would take longer than the tests themselves."""
    with new_database(server_url, template=template) as url:
        yield url


@pytest.fixture
async def outbox(engine: AsyncEngine) -> Outbox:
    """An empty outbox; one voucher is known."""
    return await emptied(engine)


# The table of states.


async def test_users_can_make_their_moves_and_no_others(outbox: Outbox) -> None:
    for old, new in PAIRS:
        row_id = await outbox.add()
        await outbox.bring(row_id, old)
        if is_allowed(USER_MOVES, old, new):
            await outbox.change(row_id, status=new.value)
            assert await outbox.status(row_id) is new
            continue
        rule = (
            f"only voucher-sync itself makes a {old} change {new}"
            if is_allowed(MOVES, old, new)
            else f"a {old} change cannot become {new}"
        )
        with pytest.raises(DatabaseError, match=f"23514.*row {row_id}: {rule}$"):
            await outbox.change(row_id, status=new.value)
        assert await outbox.status(row_id) is old


async def test_the_daemon_can_make_every_move_and_no_others(outbox: Outbox) -> None:
    for old, new in PAIRS:
        row_id = await outbox.add()
        await outbox.bring(row_id, old)
        async with as_daemon(outbox.engine) as tx:
            if is_allowed(MOVES, old, new):
                await move(tx, row_id, new)
            else:
                with pytest.raises(Exception, match=f"row {row_id}: a {old} change cannot become {new}"):
                    async with tx.begin_nested():
                        await move(tx, row_id, new)
        assert await outbox.status(row_id) is (new if is_allowed(MOVES, old, new) else old)


@pytest.mark.parametrize("status", ["lost", "", "PENDING", None])
async def test_there_are_no_other_states(outbox: Outbox, status: str | None) -> None:
    row_id = await outbox.add()
    with pytest.raises(DatabaseError, match=r"cannot become|not-null"):
        await outbox.change(row_id, status=status)
    with pytest.raises(DatabaseError, match=r"cannot become|not-null"):
        await outbox.set(row_id, status=status)
    assert await outbox.status(row_id) is Status.PENDING


async def test_the_daemon_is_one_for_its_transaction_only(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await outbox.set(row_id, last_error="some words")
    for _ in range(5):
        with pytest.raises(DatabaseError, match="only status, not_before and note"):
            await outbox.change(row_id, last_error="other words")


def another_value(name: str) -> str:
    """An expression that differs from what the column holds."""
    match outbox_table.c[name].type:
        case Text():
            return f"coalesce({name}, '') || 'x'"
        case Integer():
            return f"{name} + 1"
        case UUID():
            return "gen_random_uuid()"
        case kind:
            assert kind == TIMESTAMP or isinstance(kind, type(TIMESTAMP))
            return "timestamptz '2020-02-02'"


async def test_users_can_change_no_other_column(outbox: Outbox) -> None:
    row_id = await outbox.add(validity_start_utc=utc(2019, 1, 1), idempotency_key="a key")
    before = await outbox.row(row_id)
    users = {"status", "not_before", "note"}
    for name in set(outbox_table.c.keys()) - users:
        for also in ("", ", status = 'cancelled'", ", note = 'n'"):
            with pytest.raises(DatabaseError, match=r"only status, not_before and note|updated to DEFAULT"):
                await execute(
                    outbox.engine, f"UPDATE mews.voucher_code_outbox SET {name} = {another_value(name)}{also}"
                )
    assert await outbox.row(row_id) == before


async def test_users_may_change_the_note_whenever_they_like(outbox: Outbox) -> None:
    for status in Status:
        row_id = await outbox.add()
        await outbox.bring(row_id, status)
        before = await outbox.row(row_id)
        await outbox.change(row_id, note="for people")
        assert {**before, "note": "for people"} == await outbox.row(row_id)


async def test_users_may_delay_what_is_not_sent_yet(outbox: Outbox) -> None:
    for status in Status:
        row_id, later = await outbox.add(), utc(2099, 1, 1)
        await outbox.bring(row_id, status)
        before = await outbox.row(row_id)
        if status in {Status.PENDING, Status.HELD}:
            await outbox.change(row_id, not_before=later)
            assert {**before, "not_before": later, "next_attempt_at": later} == await outbox.row(row_id)
            await outbox.change(row_id, not_before=None)
            now = await outbox.now()
            assert now - timedelta(minutes=1) < (await outbox.row(row_id))["next_attempt_at"] <= now
            with pytest.raises(DatabaseError, match="not_before may be changed before the row is sent, to an instant"):
                await outbox.change(row_id, not_before="infinity")
        else:
            with pytest.raises(DatabaseError, match=f"row {row_id}: not_before may be changed before the row is sent"):
                await outbox.change(row_id, not_before=later)


async def test_a_cancelled_row_is_finished(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await outbox.change(row_id, status="cancelled")
    assert (await outbox.row(row_id))["finished_at"] is not None


async def test_a_released_row_is_due_and_counts_as_released(outbox: Outbox) -> None:
    row_id, delayed = await outbox.add(), await outbox.add(not_before=utc(2099, 1, 1))
    for one in (row_id, delayed):
        await outbox.bring(one, Status.HELD)
        await outbox.set(one, next_attempt_at=utc(2098, 1, 1))
        await outbox.change(one, status="pending")
        assert (await outbox.row(one))["released_at"] is not None
    assert (await outbox.row(row_id))["next_attempt_at"] <= await outbox.now()
    assert (await outbox.row(delayed))["next_attempt_at"] == utc(2099, 1, 1)


async def test_a_retried_row_is_due_with_what_was_known_of_it(outbox: Outbox) -> None:
    row_id = await outbox.add()
    await outbox.set(row_id, attempts=3, first_sent_utc=SENT_UTC, next_attempt_at=utc(2098, 1, 1))
    await outbox.bring(row_id, Status.FAILED)
    await outbox.change(row_id, status="pending")
    row = await outbox.row(row_id)
    assert (row["finished_at"], row["released_at"]) == (None, None)
    assert (row["attempts"], row["first_sent_utc"]) == (3, SENT_UTC)
    assert row["next_attempt_at"] <= await outbox.now()


# What an INSERT may hold.

ADD: dict[str, Any] = {"operation": "add", "voucher_id": VOUCHER, "value": "SUMMER"}
DELETE: dict[str, Any] = {"operation": "delete", "voucher_id": VOUCHER, "value": "SUMMER"}
OURS = "insert only operation, voucher_id, value.*: voucher-sync fills the other columns"
REFUSED: list[tuple[dict[str, Any], str]] = [
    *(
        ({**ADD, name: value}, OURS)
        for name, value in {
            "status": "held",
            "attempts": 1,
            "last_error": "",
            "request_id": "",
            "sent_at": SENT_UTC,
            "finished_at": SENT_UTC,
            "attempt_id": uuid(1),
            "released_at": SENT_UTC,
            "next_attempt_at": SENT_UTC,
            "connection": CONNECTION,
            "enterprise_id": HOTEL,
            "first_sent_utc": SENT_UTC,
            "queued_by": "me",
        }.items()
    ),
    ({**ADD, "operation": None}, "operation: must be 'add' or 'delete'"),
    ({**ADD, "operation": "ADD"}, "operation: must be 'add' or 'delete'"),
    ({**ADD, "voucher_id": None}, "an add needs voucher_id and value"),
    ({**ADD, "value": None}, "an add needs voucher_id and value"),
    ({**ADD, "voucher_code_id": uuid(1)}, "voucher_code_id: an add gets its id from the API"),
    ({"operation": "delete"}, "a delete needs voucher_code_id, or voucher_id and value"),
    ({**DELETE, "voucher_id": None}, "a delete needs voucher_code_id, or voucher_id and value"),
    ({**DELETE, "value": None}, "a delete needs voucher_code_id, or voucher_id and value"),
    ({**DELETE, "voucher_code_id": uuid(1)}, "by voucher_code_id, or by voucher_id and value, not by both"),
    (
        {"operation": "delete", "voucher_code_id": uuid(1), "value": "SUMMER", "voucher_id": None},
        "by voucher_code_id, or by voucher_id and value, not by both",
    ),
    (
        {"operation": "delete", "voucher_code_id": uuid(1), "voucher_id": VOUCHER},
        "by voucher_code_id, or by voucher_id and value, not by both",
    ),
    ({**DELETE, "validity_start_utc": SENT_UTC}, "validity_start_utc and validity_end_utc are for adds"),
    ({**DELETE, "validity_end_utc": SENT_UTC}, "validity_start_utc and validity_end_utc are for adds"),
    ({**ADD, "value": ""}, "value: has 0 characters, the API takes 1 to 128"),
    ({**ADD, "value": "x" * 129}, "value: has 129 characters, the API takes 1 to 128"),
    ({**ADD, "value": "🎉" * 129}, "value: has 129 characters, the API takes 1 to 128"),
    ({**DELETE, "value": ""}, "value: has 0 characters, the API takes 1 to 128"),
    (
        {**ADD, "validity_start_utc": SENT_UTC, "validity_end_utc": SENT_UTC - timedelta(microseconds=1)},
        "validity_end_utc: lies before validity_start_utc",
    ),
    *(
        ({**ADD, name: instant}, "must lie in the years 1 to 9999; null means no bound")
        for name in ("validity_start_utc", "validity_end_utc")
        for instant in ("infinity", "-infinity", "10000-01-01 00:00+00", "0001-12-31 23:59+00 BC")
    ),
    ({**ADD, "not_before": "infinity"}, "not_before: must be an instant that comes"),
]


async def test_every_bad_row_is_refused_by_its_rule(outbox: Outbox) -> None:
    for columns, rule in REFUSED:
        with pytest.raises(DatabaseError, match=rf"23514\): .*{rule}"):
            await outbox.queue(**columns)
    assert await outbox.statuses() == []


@pytest.mark.parametrize("instant", ["-infinity", "10000-01-01 00:00+00", "0001-12-31 23:59+00 BC"])
async def test_not_before_is_an_instant_that_can_be_shown(outbox: Outbox, instant: str) -> None:
    with pytest.raises(DatabaseError, match=r"23514.*not_before"):
        await outbox.add(not_before=instant)
    row_id = await outbox.add()
    with pytest.raises(DatabaseError, match=r"23514.*not_before"):
        await outbox.change(row_id, not_before=instant)


async def test_one_bad_row_refuses_its_whole_statement(outbox: Outbox) -> None:
    with pytest.raises(DatabaseError, match="value: has 0 characters"):
        await execute(
            outbox.engine,
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "SELECT 'add', :voucher, unnest(ARRAY['A', 'B', '', 'C'])",
            voucher=VOUCHER,
        )
    assert await outbox.statuses() == []


CLAIMED = {"attempt_id": uuid(1), "connection": CONNECTION}
IMPOSSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("operation", {"operation": "upsert"}),
    ("status", {"status": "lost"}),
    ("add_needs_voucher_and_value", {"voucher_id": None}),
    ("add_needs_voucher_and_value", {"value": None}),
    ("delete_needs_a_code", {"operation": "delete", "voucher_id": None}),
    ("delete_needs_a_code", {"operation": "delete", "value": None}),
    ("value_has_1_to_128_characters", {"value": ""}),
    ("value_has_1_to_128_characters", {"value": "x" * 129}),
    ("ends_after_start", {"validity_start_utc": utc(2026, 1, 2), "validity_end_utc": utc(2026, 1, 1)}),
    *(("finished", {"status": status, "voucher_code_id": uuid(1)}) for status in ("done", "failed", "cancelled")),
    *(("finished", {**CLAIMED, "status": status, "finished_at": SENT_UTC}) for status in sorted(UNFINISHED)),
    *(("claimed", {**CLAIMED, "status": status, "attempt_id": None}) for status in ("sending", "uncertain")),
    *(("claimed", {**CLAIMED, "status": status, "connection": None}) for status in ("sending", "uncertain")),
    ("added_code_has_id", {"status": "done", "finished_at": SENT_UTC}),
    ("only_sent_rows_have_a_target", {"unknown_since_utc": SENT_UTC}),
    ("only_sent_rows_have_a_target", {"target_code_id": uuid(1)}),
]


async def test_impossible_rows_are_refused_even_without_the_trigger(outbox: Outbox) -> None:
    async with transaction(outbox.engine) as tx:
        await tx.execute(text("ALTER TABLE mews.voucher_code_outbox DISABLE TRIGGER USER"))
        for name, columns in IMPOSSIBLE:
            with pytest.raises(IntegrityError, match=f'"voucher_code_outbox_{name}_check"'):
                async with tx.begin_nested():
                    await queue(tx, **{**ADD, "next_attempt_at": SENT_UTC, **columns})
        await tx.rollback()
    checks = {one.name for one in outbox_table.constraints if isinstance(one, CheckConstraint)}
    assert {f"voucher_code_outbox_{name}_check" for name, _ in IMPOSSIBLE} == checks


VALUES = [
    "x",
    " ",
    "0",
    "null",
    "'); DROP TABLE mews.voucher_code_outbox; --".ljust(128, "'"),
    "\"; :value %s %(value)s {} $1 \\ \\x00 E'\\n".ljust(128, "\\"),
    "🎉" * 128,
    "👩\u200d👩\u200d👧\u200d👦".ljust(128, "\u0301"),
    "\u202eכוד\u200f".ljust(128, "ש"),
    "\n\t\r\x01\x7f".ljust(128, "\ufeff"),
    "\U0010ffff" * 128,
    "ǅ" * 128,
]


async def test_any_value_of_up_to_128_characters_is_queued_as_it_is(outbox: Outbox) -> None:
    for value in VALUES:
        assert 1 <= len(value) <= 128
        add = await outbox.add(value)
        assert (await outbox.row(add))["value"] == value
        delete = await outbox.delete(value)
        assert [await outbox.status(one) for one in (add, delete)] == [Status.CANCELLED] * 2


async def test_validity_is_free_within_the_years_1_to_9999(outbox: Outbox) -> None:
    first, last = utc(1, 1, 1), utc(9999, 12, 31, 23, 59, 59, 999_999)
    for start, end in [(first, last), (first, first), (last, last), (None, first), (last, None), (None, None)]:
        row = await outbox.row(await outbox.add(validity_start_utc=start, validity_end_utc=end))
        assert (row["validity_start_utc"], row["validity_end_utc"]) == (start, end)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Los_Angeles"])
async def test_the_session_s_zone_and_style_change_no_rule(outbox: Outbox, zone: str) -> None:
    async with transaction(outbox.engine) as tx:
        await tx.execute(text(f"SET LOCAL TIME ZONE '{zone}'"))
        await tx.execute(text("SET LOCAL datestyle = 'SQL, DMY'"))
        await queue(tx, value="A", validity_start_utc=utc(1, 1, 1))
        await queue(tx, value="B", validity_end_utc=utc(9999, 12, 31, 23, 59, 59))
        with pytest.raises(Exception, match="years 1 to 9999"):
            await queue(tx, value="C", validity_end_utc="10000-01-01 00:00+00")


async def test_a_row_is_filled_in_when_it_is_queued(outbox: Outbox) -> None:
    later, before = utc(2099, 1, 1), await outbox.now()
    row = await outbox.row(await outbox.add(created_at=SENT_UTC, not_before=later, note="n", status="pending"))
    assert before <= row["created_at"] <= await outbox.now()
    assert (row["next_attempt_at"], row["not_before"], row["note"]) == (later, later, "n")
    assert (row["status"], row["attempts"], row["connection"], row["enterprise_id"]) == (
        "pending",
        0,
        CONNECTION,
        HOTEL,
    )
    (me,) = await rows(outbox.engine, "SELECT session_user::text AS name")
    assert row["queued_by"] == me["name"]
    for past in (utc(2020, 1, 1), None):
        row = await outbox.row(await outbox.add(not_before=past))
        assert before <= row["next_attempt_at"] <= await outbox.now()


async def test_a_row_is_as_old_as_its_insert_not_as_its_transaction(outbox: Outbox) -> None:
    """What a reading that began in between has not seen proves nothing about it."""
    async with transaction(outbox.engine) as tx:
        await tx.execute(text("SELECT 1"))
        reading_began = await outbox.now()
        row_id = await queue(tx, "delete", value="SUMMER")
    assert row_id is not None
    assert (await outbox.row(row_id))["created_at"] > reading_began


async def test_a_row_belongs_to_the_connection_and_hotel_of_its_voucher(outbox: Outbox) -> None:
    await outbox.know(OTHER_VOUCHER.int, connection="other", enterprise_id=None)
    for voucher_id, expected in [
        (VOUCHER, (CONNECTION, HOTEL)),
        (OTHER_VOUCHER, ("other", None)),
        (UNKNOWN_VOUCHER, (None, None)),
    ]:
        for operation, value in [("add", "A"), ("delete", "B")]:
            row = await outbox.row(await outbox.queue(operation, voucher_id=voucher_id, value=value))
            assert (row["connection"], row["enterprise_id"]) == expected


async def test_a_delete_by_id_learns_the_rest_from_the_mirror(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER"))
    row = await outbox.row(await outbox.queue("delete", voucher_code_id=uuid(1)))
    assert (row["voucher_id"], row["value"]) == (VOUCHER, "SUMMER")
    assert (row["connection"], row["enterprise_id"], row["status"]) == (CONNECTION, HOTEL, "pending")
    row = await outbox.row(await outbox.queue("delete", voucher_code_id=uuid(2)))
    assert [row[name] for name in ("voucher_id", "value", "connection", "enterprise_id")] == [None] * 4


async def test_a_mirrored_value_is_not_held_to_the_rules_of_an_add(outbox: Outbox) -> None:
    for number, value in enumerate(["", "x" * 129, None], 1):
        await store(outbox.engine, code(number, value))
        row_id = await outbox.queue("delete", voucher_code_id=uuid(number))
        assert (await outbox.row(row_id))["value"] == value


# The same add twice.


async def test_the_same_add_is_queued_once_at_a_time(outbox: Outbox) -> None:
    for status in Status:
        row_id = await outbox.add(status.name)
        await outbox.bring(row_id, status)
        if status in UNFINISHED:
            for again in ({}, {"note": "other"}, {"validity_end_utc": SENT_UTC}):
                with pytest.raises(DatabaseError, match=f"23505.*the same add is queued already, as row {row_id}$"):
                    await outbox.add(status.name, **again)
        else:
            await outbox.add(status.name)


async def test_another_value_or_voucher_is_another_add(outbox: Outbox) -> None:
    for voucher_id, value in product([VOUCHER, OTHER_VOUCHER], ["SUMMER", "summer", "SUMMER ", "ＳUMMER"]):
        await outbox.add(value, voucher_id=voucher_id)
    assert await outbox.statuses() == ["pending"] * 8


async def test_one_statement_cannot_queue_the_same_add_twice(outbox: Outbox) -> None:
    with pytest.raises(DatabaseError, match="the same add is queued already"):
        await execute(
            outbox.engine,
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "VALUES ('add', :v, 'A'), ('add', :v, 'A')",
            v=VOUCHER,
        )
    assert await outbox.statuses() == []


async def test_a_failed_add_is_not_retried_beside_the_same_one(outbox: Outbox) -> None:
    failed = await outbox.add("SUMMER")
    await outbox.bring(failed, Status.FAILED)
    await outbox.add("SUMMER")
    with pytest.raises(DatabaseError, match="23505"):
        await outbox.change(failed, status="pending")
    assert await outbox.statuses() == ["failed", "pending"]


@asynccontextmanager
async def second(outbox: Outbox, act: Callable[[AsyncConnection], Awaitable[Any]]) -> AsyncIterator[asyncio.Task[Any]]:
    """Another transaction's act, which waits for a lock that this one holds."""

    async def run() -> Any:
        async with transaction(outbox.engine) as tx:
            return await act(tx)

    task = asyncio.create_task(run())
    try:
        await blocked(outbox.engine, task)
        assert not task.done()
        yield task
    finally:
        await asyncio.wait([task])


async def test_of_two_transactions_with_the_same_add_one_is_refused(outbox: Outbox) -> None:
    async with transaction(outbox.engine) as tx:
        await queue(tx, value="SUMMER")
        async with second(outbox, lambda other: queue(other, value="SUMMER")) as task:
            await tx.commit()
    with pytest.raises(DatabaseError, match="23505"):
        await task
    assert await outbox.statuses() == ["pending"]


async def test_the_same_add_is_queued_once_its_first_is_rolled_back(outbox: Outbox) -> None:
    async with transaction(outbox.engine) as tx:
        await queue(tx, value="SUMMER")
        async with second(outbox, lambda other: queue(other, value="SUMMER")) as task:
            await tx.rollback()
    assert await task is not None
    assert await outbox.statuses() == ["pending"]


# Keys that make an application's retries harmless.

KEY: dict[str, Any] = {"idempotency_key": "order 17"}
ON_CONFLICT = ["", "ON CONFLICT DO NOTHING", "ON CONFLICT (idempotency_key) DO NOTHING"]


async def test_the_same_key_again_queues_nothing(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "MIRRORED"))
    for number, change_ in enumerate(
        (
            ADD,
            {**ADD, "value": "WINTER", "validity_start_utc": SENT_UTC},
            {**DELETE, "value": "AUTUMN"},
            {"operation": "delete", "voucher_code_id": uuid(1)},
            {"operation": "delete", "voucher_code_id": uuid(2)},
        )
    ):
        key: dict[str, Any] = {"idempotency_key": f"key {number}"}
        await outbox.queue(**change_, **key)
        for suffix in ON_CONFLICT:
            await outbox.queue_nothing(**change_, **key, suffix=suffix)
            await outbox.queue_nothing(**change_, **key, suffix=suffix, note="n", not_before=SENT_UTC)


async def test_a_key_stays_used_whatever_became_of_its_row(outbox: Outbox) -> None:
    for status in Status:
        key: dict[str, Any] = {"idempotency_key": status.value}
        row_id = await outbox.add(status.name, **key)
        await outbox.bring(row_id, status)
        await outbox.queue_nothing(value=status.name, **key)


@pytest.mark.parametrize(
    ("first", "other"),
    [
        (ADD, {**ADD, "value": "WINTER"}),
        (ADD, {**ADD, "voucher_id": OTHER_VOUCHER}),
        (ADD, {**ADD, "validity_start_utc": SENT_UTC}),
        ({**ADD, "validity_end_utc": SENT_UTC}, ADD),
        ({**ADD, "validity_end_utc": SENT_UTC}, {**ADD, "validity_end_utc": SENT_UTC + timedelta(seconds=1)}),
        (ADD, DELETE),
        (DELETE, ADD),
        (DELETE, {**DELETE, "value": "WINTER"}),
        (DELETE, {"operation": "delete", "voucher_code_id": uuid(1)}),
        (
            {"operation": "delete", "voucher_code_id": uuid(1)},
            {"operation": "delete", "voucher_code_id": uuid(2)},
        ),
        ({"operation": "delete", "voucher_code_id": uuid(1)}, DELETE),
        (ADD, {**ADD, "value": None}),
        (ADD, {**ADD, "operation": None}),
    ],
)
async def test_a_key_belongs_to_one_change(outbox: Outbox, first: dict[str, Any], other: dict[str, Any]) -> None:
    row_id = await outbox.queue(**first, **KEY)
    for suffix in ON_CONFLICT:
        with pytest.raises(
            DatabaseError, match=f"idempotency_key: row {row_id} has the same key and asks for something"
        ):
            await outbox.queue(**other, **KEY, suffix=suffix)
    assert await outbox.statuses() == ["pending"]


async def test_a_delete_that_comes_again_takes_back_nothing_new(outbox: Outbox) -> None:
    await outbox.queue(**DELETE, **KEY)
    await outbox.add("SUMMER")
    await outbox.queue_nothing(**DELETE, **KEY)
    assert await outbox.statuses() == ["pending", "pending"]


@pytest.mark.parametrize("suffix", ON_CONFLICT)
async def test_a_retry_beside_its_first_queues_nothing(outbox: Outbox, suffix: str) -> None:
    async with transaction(outbox.engine) as tx:
        await queue(tx, **ADD, **KEY)
        async with second(outbox, lambda other: queue(other, **ADD, **KEY, suffix=suffix)) as task:
            await tx.commit()
    if suffix:
        assert await task is None
    else:  # only the index knows of both
        with pytest.raises(DatabaseError, match="23505"):
            await task
    assert await outbox.statuses() == ["pending"]


async def test_rows_without_a_key_are_no_retries(outbox: Outbox) -> None:
    for _ in range(2):
        await outbox.queue("delete", value="SUMMER")
    assert await outbox.statuses() == ["pending", "pending"]


# A delete of an add that was not sent yet.


async def assert_both_are_cancelled(outbox: Outbox, add: int, delete: int) -> None:
    added, deleted = await outbox.row(add), await outbox.row(delete)
    assert (added["status"], deleted["status"]) == ("cancelled", "cancelled")
    assert added["last_error"] == f"taken back, before it was sent, by the delete in row {delete}"
    assert deleted["last_error"] == f"took back the add in row {add} before it was sent"
    assert added["finished_at"] is not None
    assert deleted["finished_at"] is not None


@pytest.mark.parametrize("status", [Status.PENDING, Status.HELD])
@pytest.mark.parametrize("not_before", [None, utc(2099, 1, 1)])
async def test_a_delete_takes_back_an_add_that_was_never_sent(outbox: Outbox, status: Status, not_before: Any) -> None:
    add = await outbox.add("SUMMER", not_before=not_before)
    await outbox.bring(add, status)
    beside = [await outbox.add("WINTER"), await outbox.add("SUMMER", voucher_id=OTHER_VOUCHER)]
    await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER"))
    assert [await outbox.status(one) for one in beside] == [Status.PENDING] * 2
    assert await outbox.status(await outbox.delete("SUMMER")) is Status.PENDING


async def test_an_add_of_an_unknown_voucher_is_taken_back_too(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER", voucher_id=UNKNOWN_VOUCHER)
    await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER", voucher_id=UNKNOWN_VOUCHER))


async def test_one_statement_may_add_and_take_back(outbox: Outbox) -> None:
    await execute(
        outbox.engine,
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES "
        "('add', :v, 'A'), ('add', :v, 'B'), ('delete', :v, 'A'), "
        "('delete', :v, 'C'), ('add', :v, 'A'), ('delete', :v, 'B')",
        v=VOUCHER,
    )
    found = await rows(outbox.engine, "SELECT id, value, status FROM mews.voucher_code_outbox ORDER BY id")
    assert [(row["value"], row["status"]) for row in found] == [
        ("A", "cancelled"),
        ("B", "cancelled"),
        ("A", "cancelled"),
        ("C", "pending"),
        ("A", "pending"),
        ("B", "cancelled"),
    ]
    await assert_both_are_cancelled(outbox, found[0]["id"], found[2]["id"])


@pytest.mark.parametrize("status", Status)
async def test_an_add_that_was_sent_is_not_taken_back(outbox: Outbox, status: Status) -> None:
    add = await outbox.add("SUMMER")
    await outbox.set(add, attempts=1)
    await outbox.bring(add, status)
    assert await outbox.status(await outbox.delete("SUMMER")) is Status.PENDING
    assert await outbox.status(add) is status


async def test_a_delete_of_another_code_by_id_takes_nothing_back(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER"))
    add = await outbox.add("SUMMER")
    delete = await outbox.queue("delete", voucher_code_id=uuid(1))
    assert [await outbox.status(one) for one in (add, delete)] == [Status.PENDING] * 2


async def test_a_delete_that_takes_back_an_add_still_deletes_the_code_that_stands(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER"))
    add = await outbox.add("SUMMER")
    delete = await outbox.row(await outbox.delete("SUMMER"))
    assert (delete["status"], delete["last_error"], delete["finished_at"]) == ("pending", None, None)
    assert await outbox.status(add) is Status.CANCELLED


async def test_a_delete_behind_one_of_the_code_that_stands_only_takes_back_an_add(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER"))
    first = await outbox.delete("SUMMER")
    add = await outbox.add("SUMMER")
    await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER"))
    assert await outbox.status(first) is Status.PENDING


async def test_a_code_that_stands_no_longer_needs_no_delete(outbox: Outbox) -> None:
    await store(outbox.engine, code(1, "SUMMER", is_active=False))
    add = await outbox.add("SUMMER")
    await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER"))


async def test_an_empty_key_is_refused(outbox: Outbox) -> None:
    with pytest.raises(DatabaseError, match=r"23514\): .*idempotency_key: is empty"):
        await outbox.add("SUMMER", idempotency_key="")


async def claim_all(tx: AsyncConnection) -> list[int]:
    """Claims every add that is due."""
    attempt_id = uuid4()
    due = [row.id for row in await lock_due(tx, ADDS, 100)]
    await begin_attempt(tx, ADDS, attempt_id, lease=timedelta(seconds=30), server_utc=SENT_UTC)
    await claim(tx, attempt_id, dict.fromkeys(due), SENT_UTC)
    return due


async def test_a_delete_waits_for_a_claim_and_stays_pending_once_it_is_committed(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    async with as_daemon(outbox.engine) as tx:
        assert await claim_all(tx) == [add]
        async with second(outbox, lambda other: queue(other, "delete", value="SUMMER")) as task:
            await tx.commit()
    delete = await outbox.row(await task)
    assert (delete["status"], delete["last_error"], delete["finished_at"]) == ("pending", None, None)
    assert await outbox.status(add) is Status.SENDING


async def test_a_delete_takes_back_an_add_whose_claim_was_rolled_back(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    async with as_daemon(outbox.engine) as tx:
        assert await claim_all(tx) == [add]
        async with second(outbox, lambda other: queue(other, "delete", value="SUMMER")) as task:
            await tx.rollback()
    await assert_both_are_cancelled(outbox, add, await task)


async def test_nothing_is_claimed_that_is_being_taken_back(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    async with transaction(outbox.engine) as tx:
        delete = await queue(tx, "delete", value="SUMMER")
        async with asyncio.timeout(PATIENCE_S), as_daemon(outbox.engine) as daemon:
            assert await claim_all(daemon) == []
    assert delete is not None
    await assert_both_are_cancelled(outbox, add, delete)
    async with as_daemon(outbox.engine) as daemon:
        assert await claim_all(daemon) == []


async def test_a_delete_that_is_rolled_back_takes_nothing_back(outbox: Outbox) -> None:
    add = await outbox.add("SUMMER")
    async with transaction(outbox.engine) as tx:
        await queue(tx, "delete", value="SUMMER")
        await tx.rollback()
    assert (await outbox.status(add), (await outbox.row(add))["last_error"]) == (Status.PENDING, None)
    async with as_daemon(outbox.engine) as daemon:
        assert await claim_all(daemon) == [add]


# Waking the daemon.


class Listener:
    """Hears what is notified; `upto` sends a word of its own behind everything that was committed, and waits for it."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], engine: AsyncEngine) -> None:
        self._connection, self._engine = connection, engine

    async def upto(self, word: str) -> list[str]:
        await execute(self._engine, "SELECT pg_notify(:channel, :word)", channel=CHANNEL, word=word)
        heard: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while word not in heard:
                heard += [one.payload async for one in self._connection.notifies(timeout=PATIENCE_S, stop_after=1)]
        return heard[:-1]


@pytest.fixture
async def listener(outbox: Outbox, database_url: str) -> AsyncIterator[Listener]:
    """Who listens as the daemon does."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
        yield Listener(connection, outbox.engine)


async def test_an_insert_wakes_the_daemon_once_it_is_committed(outbox: Outbox, listener: Listener) -> None:
    async with transaction(outbox.engine) as tx:
        await queue(tx, value="A")
        assert await listener.upto("not yet") == []
    assert await listener.upto("now") == [""]
    async with transaction(outbox.engine) as tx:
        await queue(tx, value="B")
        await tx.rollback()
    assert await listener.upto("never") == []


async def test_many_rows_wake_it_once(outbox: Outbox, listener: Listener) -> None:
    await execute(
        outbox.engine,
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) SELECT 'add', :v, generate_series(1, 500)",
        v=VOUCHER,
    )
    assert await listener.upto("end") == [""]


async def test_a_retry_a_release_and_an_earlier_instant_wake_it(outbox: Outbox, listener: Listener) -> None:
    failed, held, delayed = await outbox.add(), await outbox.add(), await outbox.add(not_before=utc(2099, 1, 1))
    await outbox.bring(failed, Status.FAILED)
    await outbox.bring(held, Status.HELD)
    await listener.upto("queued")
    for row_id in (failed, held):
        await outbox.change(row_id, status="pending")
        assert await listener.upto(f"changed {row_id}") == [""]
    await outbox.change(delayed, not_before=None)
    assert await listener.upto("end") == [""]


async def test_a_cancel_and_the_daemon_s_own_moves_wake_nobody(outbox: Outbox, listener: Listener) -> None:
    row_ids = {status: await outbox.add() for status in Status}
    cancelled, given_back = await outbox.add(), [await outbox.add() for _ in range(3)]
    await listener.upto("queued")
    for status, row_id in row_ids.items():
        await outbox.bring(row_id, status)
    for row_id, status in zip(given_back, (Status.SENDING, Status.UNCERTAIN, Status.HELD), strict=True):
        await outbox.bring(row_id, status)
        await outbox.bring(row_id, Status.PENDING)
        async with as_daemon(outbox.engine) as tx:
            await move(tx, row_id, Status.PENDING)
    await outbox.change(cancelled, status="cancelled")
    assert await listener.upto("end") == []


# Roles.


@contextmanager
def login(database_url: str, *, member_of: str | None = None) -> Iterator[str]:
    """The URL of the same database for a new user, who is gone afterwards."""
    name = f"test_{uuid4().hex}"
    member = sql.SQL("IN ROLE {}").format(sql.Identifier(member_of)) if member_of else sql.SQL("")
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} {}").format(sql.Identifier(name), sql.Literal(PASSWORD), member)
        )
    yield make_conninfo(database_url, user=name, password=PASSWORD)
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@asynccontextmanager
async def user(database_url: str, role: str) -> AsyncIterator[Outbox]:
    """The outbox as a user with this role sees it."""
    with login(database_url, member_of=role) as url:
        engine = make_engine(url)
        yield Outbox(engine)
        await engine.dispose()


@pytest.fixture
async def writer(outbox: Outbox, database_url: str) -> AsyncIterator[Outbox]:
    async with user(database_url, "mews_writer") as writer:
        yield writer


@pytest.fixture
async def reader(outbox: Outbox, database_url: str) -> AsyncIterator[Outbox]:
    async with user(database_url, "mews_reader") as reader:
        yield reader


DENIED = r"42501\): permission denied"


async def relations(outbox: Outbox, schema: str) -> list[str]:
    found = await rows(
        outbox.engine,
        "SELECT format('%I.%I', schemaname, name) AS name FROM (SELECT schemaname, tablename AS name FROM pg_tables "
        "UNION ALL SELECT schemaname, viewname FROM pg_views) AS relation WHERE schemaname = :schema",
        schema=schema,
    )
    assert len(found) > 5
    return [row["name"] for row in found]


@pytest.mark.parametrize("role", ["mews_reader", "mews_writer"])
async def test_both_roles_read_all_of_mews_and_nothing_of_sync(outbox: Outbox, database_url: str, role: str) -> None:
    await outbox.add()
    async with user(database_url, role) as one:
        for relation in await relations(outbox, "mews"):
            await rows(one.engine, f"SELECT * FROM {relation}")
        assert await one.statuses() == ["pending"]
        for relation in await relations(outbox, "sync"):
            with pytest.raises(DatabaseError, match=f"{DENIED} for schema sync"):
                await rows(one.engine, f"SELECT * FROM {relation}")
        with pytest.raises(DatabaseError, match=f"{DENIED} for schema"):
            await execute(one.engine, "CREATE TABLE mews.mine (id int)")


WRITES = [f"DELETE FROM {table.fullname}" for table in metadata.sorted_tables if table.schema == "mews"] + [
    f"TRUNCATE {table.fullname} CASCADE" for table in metadata.sorted_tables if table.schema == "mews"
]


async def test_a_reader_only_reads(outbox: Outbox, reader: Outbox) -> None:
    await outbox.add()
    for attempt in [*WRITES, "UPDATE mews.voucher_code_outbox SET status = 'cancelled'"]:
        with pytest.raises(DatabaseError, match=DENIED):
            await execute(reader.engine, attempt)
    with pytest.raises(DatabaseError, match=DENIED):
        await reader.add()
    assert await outbox.statuses() == ["pending"]


async def test_a_writer_queues_by_the_input_columns(outbox: Outbox, writer: Outbox) -> None:
    await store(outbox.engine, code(1, "MIRRORED"))
    row_id = await writer.add(
        "SUMMER", validity_start_utc=SENT_UTC, validity_end_utc=SENT_UTC, not_before=SENT_UTC, note="n", **KEY
    )
    (me,) = await rows(writer.engine, "SELECT session_user::text AS name")
    row = await outbox.row(row_id)
    assert (row["queued_by"], row["connection"], row["enterprise_id"]) == (me["name"], CONNECTION, HOTEL)
    await writer.queue("delete", voucher_code_id=uuid(1))
    again: dict[str, Any] = {"validity_start_utc": SENT_UTC, "validity_end_utc": SENT_UTC, **KEY}
    for suffix in ON_CONFLICT:
        await writer.queue_nothing(value="SUMMER", **again, suffix=suffix)
    assert await outbox.statuses() == ["pending"] * 2


async def test_a_writer_fills_no_other_column(outbox: Outbox, writer: Outbox) -> None:
    inputs = {"operation", "voucher_id", "value", "validity_start_utc", "validity_end_utc", "voucher_code_id"}
    inputs |= {"idempotency_key", "not_before", "note"}
    for name in set(outbox_table.c.keys()) - inputs:
        with pytest.raises(DatabaseError, match=DENIED):
            await execute(
                writer.engine,
                f"INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, {name}) "
                "VALUES ('add', :v, 'A', DEFAULT)",
                v=VOUCHER,
            )
    assert await outbox.statuses() == []


async def test_a_writer_changes_nothing_else(outbox: Outbox, writer: Outbox) -> None:
    await writer.add()
    changes = [
        f"UPDATE mews.voucher_code_outbox SET {name} = DEFAULT"
        for name in set(outbox_table.c.keys())
        if name != "status"
    ]
    for attempt in [*WRITES, *changes, "INSERT INTO mews.voucher_code_outbox_attempts DEFAULT VALUES"]:
        with pytest.raises(DatabaseError, match=DENIED):
            await execute(writer.engine, attempt)
    assert await outbox.statuses() == ["pending"]


async def test_a_writer_cancels_its_own_unsent_rows_only(outbox: Outbox, writer: Outbox) -> None:
    mine, theirs = {}, {}
    for status in Status:
        mine[status], theirs[status] = await writer.add(f"MINE {status}"), await outbox.add(f"THEIRS {status}")
        await outbox.bring(mine[status], status)
        await outbox.bring(theirs[status], status)
    for status in (Status.PENDING, Status.HELD):
        with pytest.raises(
            DatabaseError, match=f"42501.*row {theirs[status]}: you may cancel what you queued yourself"
        ):
            await writer.change(theirs[status], status="cancelled")
        await writer.change(mine[status], status="cancelled")
        assert await outbox.status(mine[status]) is Status.CANCELLED
    for status in (Status.SENDING, Status.UNCERTAIN):
        with pytest.raises(DatabaseError, match=f"a {status} change cannot become cancelled"):
            await writer.change(mine[status], status="cancelled")
    assert [await outbox.status(row_id) for row_id in theirs.values()] == list(theirs)


@pytest.mark.parametrize("status", [Status.HELD, Status.FAILED])
async def test_a_writer_releases_and_retries_nothing_not_even_its_own(
    outbox: Outbox, writer: Outbox, status: Status
) -> None:
    for row_id in (await writer.add(), await outbox.add("THEIRS")):
        await outbox.bring(row_id, status)
        with pytest.raises(DatabaseError, match=f"42501.*row {row_id}: you may cancel what you queued yourself; ask"):
            await writer.change(row_id, status="pending")
        assert await outbox.status(row_id) is status


@pytest.mark.parametrize("status", [Status.HELD, Status.FAILED, Status.PENDING])
async def test_a_writer_is_not_the_daemon_for_saying_so(outbox: Outbox, writer: Outbox, status: Status) -> None:
    for row_id in (await outbox.add(), await writer.add("MINE")):
        await outbox.bring(row_id, status)
        with pytest.raises(DatabaseError):
            async with as_daemon(writer.engine) as tx:
                await change(tx, row_id, status="held" if status is Status.PENDING else "pending")
        assert await outbox.status(row_id) is status


async def test_a_writer_s_delete_takes_an_unsent_add_back(outbox: Outbox, writer: Outbox) -> None:
    for adder in (outbox, writer):
        add = await adder.add("SUMMER")
        await assert_both_are_cancelled(outbox, add, await writer.delete("SUMMER"))
    await outbox.add("WINTER")
    with pytest.raises(DatabaseError, match="the same add is queued already"):
        await writer.add("WINTER")


@contextmanager
def owned_database(server_url: str) -> Iterator[str]:
    """The URL of an empty database for its owner, who may make no roles."""
    with login(server_url) as owner:
        name = psycopg.conninfo.conninfo_to_dict(owner)["user"]
        with new_database(server_url) as url:
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute(
                    sql.SQL("ALTER DATABASE {} OWNER TO {}").format(
                        sql.Identifier(str(admin.info.dbname)), sql.Identifier(str(name))
                    )
                )
            yield make_conninfo(url, user=str(name), password=PASSWORD)


async def test_who_may_make_no_roles_can_migrate_and_use_the_outbox(server_url: str, template: str) -> None:
    with owned_database(server_url) as url:
        migrate(url)
        engine = make_engine(url)
        outbox = Outbox(engine)
        await outbox.know(VOUCHER.int)
        add = await outbox.add("SUMMER")
        await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER"))
        await outbox.bring(failed := await outbox.add(), Status.FAILED)
        await outbox.change(failed, status="pending")
        await engine.dispose()


@pytest.mark.usefixtures("template")  # with it the server has the roles
def test_roles_that_stand_already_get_their_grants_from_who_may_make_none(server_url: str) -> None:
    with owned_database(server_url) as url:
        migrate(url)
        with psycopg.connect(url) as owner:
            granted = owner.execute(
                "SELECT has_schema_privilege('mews_reader', 'mews', 'USAGE'), "
                "has_table_privilege('mews_reader', 'mews.voucher_codes', 'SELECT'), "
                "has_column_privilege('mews_writer', 'mews.voucher_code_outbox', 'value', 'INSERT')"
            ).fetchone()
    assert granted == (True, True, True)
