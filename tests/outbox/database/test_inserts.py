"""What an INSERT may hold, what is filled in, and which rule a bad row is told that it broke."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import CheckConstraint, text
from sqlalchemy.exc import IntegrityError

from sync.core.errors import DatabaseError
from sync.outbox.rules import Status
from sync.outbox.tables import outbox as outbox_table
from tests.support.database import CONNECTION, code, rows, store, uuid
from tests.support.instants import utc
from tests.support.queue import (
    ADD,
    DELETE,
    HOTEL,
    OTHER_VOUCHER,
    SENT_UTC,
    UNFINISHED,
    UNKNOWN_VOUCHER,
    VOUCHER,
    Outbox,
    as_user,
    execute,
    queue,
)

OURS = "insert only operation, voucher_id, value.*: voucher-sync fills the other columns"
REFUSED: list[tuple[dict[str, Any], str]] = [
    *(
        ({**ADD, name: value}, OURS)
        for name, value in {
            "status": "held",
            "attempts": 1,
            "last_error": "as an API says",
            "request_id": "1",
            "sent_at": SENT_UTC,
            "finished_at": SENT_UTC,
            "attempt_id": uuid(1),
            "released_at": SENT_UTC,
            "held_by_gap": SENT_UTC,
            "next_attempt_at": SENT_UTC,
            "connection": CONNECTION,
            "enterprise_id": HOTEL,
            "first_sent_utc": SENT_UTC,
            "queued_by": "me",
            "first_sent_at": SENT_UTC,
            "uncertain_because": "unknown",
            "blocked_alone": 1,
            "singled_out": 1,
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
    ({**ADD, "note": "x" * 10_001}, "note: has 10001 characters, 10000 are the most"),
    ({**DELETE, "note": "🎉" * 1_000_000}, "note: has 1000000 characters, 10000 are the most"),
    ({**ADD, "idempotency_key": "x" * 256}, "idempotency_key: has 256 characters, 255 are the most"),
    ({**ADD, "not_before": "infinity"}, "not_before: must lie in the years 1 to 9999; null means at once"),
]


@pytest.mark.long
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


async def test_a_note_is_no_longer_afterwards(outbox: Outbox) -> None:
    row_id = await outbox.add(note="🎉" * 10_000, idempotency_key="🎉" * 255)
    with pytest.raises(DatabaseError, match=r"23514.*note: has 10001 characters"):
        await outbox.change(row_id, note="x" * 10_001)
    await outbox.change(row_id, note="x" * 10_000)
    with pytest.raises(DatabaseError) as refused:
        await outbox.change(row_id, status="x" * 1_000_000)
    assert len(str(refused.value)) < 200


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
    ("after_an_earlier_row", {"after_id": 2**62}),
    ("erased_rows_rest", {"erased_at": SENT_UTC}),
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
    ("only_sent_rows_were_first_sent", {"first_sent_at": SENT_UTC}),
    ("uncertain_because", {**CLAIMED, "status": "uncertain", "uncertain_because": "I say so"}),
    ("uncertain_rows_say_why", {**CLAIMED, "status": "uncertain"}),
    *(
        ("uncertain_rows_say_why", {**CLAIMED, "status": status, "uncertain_because": "unknown"})
        for status in ("pending", "sending")
    ),
    ("held_because", {"status": "held", "held_because": "I say so"}),
    ("held_rows_say_why", {"status": "held"}),
    *(
        ("held_rows_say_why", {**CLAIMED, "status": status, "held_because": "before_a_gap"})
        for status in ("pending", "sending")
    ),
    ("singled_out_when_blocked", {"attempts": 2, "blocked_alone": 1, "singled_out": 2}),
    ("singled_out_when_blocked", {"singled_out": -1}),
    ("blocked_when_sent", {"attempts": 1, "blocked_alone": 2}),
]


async def test_impossible_rows_are_refused_even_without_the_trigger(outbox: Outbox) -> None:
    async with as_user(outbox.engine) as tx:
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
    async with as_user(outbox.engine) as tx:
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
    async with as_user(outbox.engine) as tx:
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
