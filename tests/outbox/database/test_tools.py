"""What mappers, drivers and tools send: every column, `DEFAULT` and `NULL`, whole batches, and locks."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Integer, Text

from sync.outbox.rules import Status
from sync.outbox.tables import outbox as outbox_table
from tests.support.database import rows
from tests.support.queue import VOUCHER, Outbox

TABLE = sql.SQL("mews.voucher_code_outbox")
INPUTS = ("operation", "voucher_id", "value")
OURS = [
    name
    for name in outbox_table.c.keys()  # noqa: SIM118 - its columns, not itself
    if name not in INPUTS
]


def insertion(columns: list[str], values: list[str]) -> sql.Composed:
    """An INSERT of an add, with these columns in front."""
    names = sql.SQL(", ").join(map(sql.Identifier, [*columns, *INPUTS]))
    given = sql.SQL(", ").join([*map(sql.SQL, values), sql.SQL("'add', %s, %s")])
    return sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(TABLE, names, given)


async def test_the_number_is_given_as_default(outbox: Outbox, app: psycopg.AsyncConnection) -> None:
    """As TypeORM and Sequelize do."""
    statement = insertion(["id"], ["DEFAULT"]) + sql.SQL(" RETURNING *")
    row = await (await app.execute(statement, [VOUCHER, "A"])).fetchone()
    assert row is not None
    assert await outbox.statuses() == ["pending"]


@pytest.mark.parametrize("word", ["DEFAULT", "NULL"])
async def test_every_column_of_the_daemon_s_is_left_open_by_a_word(
    outbox: Outbox, app: psycopg.AsyncConnection, word: str
) -> None:
    """As Hibernate does."""
    await outbox.add("PLAIN")
    words = ["DEFAULT" if name == "id" else word for name in OURS]
    await app.execute(insertion(OURS, words), [VOUCHER, "A"])
    assert await outbox.statuses() == ["pending", "pending"]
    plain, row = [await outbox.row(row_id) for row_id in await ids(outbox)]
    own = {"id", "value", "created_at", "next_attempt_at", "queued_by"}
    assert {name: row[name] for name in row if name not in own} == {
        name: plain[name] for name in plain if name not in own
    }


async def test_so_is_the_status_by_an_empty_text(outbox: Outbox, app: psycopg.AsyncConnection) -> None:
    """As Django does, by a model that `inspectdb` has made of the table."""
    await app.execute(insertion(["status"], ["''"]), [VOUCHER, "A"])
    assert await outbox.statuses() == ["pending"]


EMPTY_TEXTS = [  # as Django's forms and Pony send
    *("last_error", "request_id", "connection", "queued_by", "uncertain_because", "held_because"),
    *("changed_by", "changed_how"),
]


async def test_so_is_every_text_of_the_daemon_s(outbox: Outbox, app: psycopg.AsyncConnection) -> None:
    await app.execute(insertion(EMPTY_TEXTS, ["''"] * len(EMPTY_TEXTS)), [VOUCHER, "A"])
    row = await outbox.row((await ids(outbox))[0])
    assert (row["status"], row["queued_by"]) == ("pending", app.info.user)
    assert {row[name] for name in EMPTY_TEXTS} == {None, app.info.user, "default"}


async def test_a_code_named_by_its_id_may_have_an_empty_value(outbox: Outbox, app: psycopg.AsyncConnection) -> None:
    statement = "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id, value) VALUES ('delete', %s, '')"
    await app.execute(statement, [uuid4()])
    assert await outbox.statuses() == ["pending"]


async def ids(outbox: Outbox) -> list[int]:
    return [row["id"] for row in await rows(outbox.engine, "SELECT id FROM mews.voucher_code_outbox ORDER BY id")]


async def test_the_instant_of_its_making_is_ours_whoever_sends_one(
    outbox: Outbox, app: psycopg.AsyncConnection
) -> None:
    """As Django and Rails do."""
    await app.execute(insertion(["created_at"], ["'2001-01-01'"]), [VOUCHER, "A"])
    (row_id,) = await ids(outbox)
    assert (await outbox.row(row_id))["created_at"].year > 2001


@pytest.mark.parametrize("way", ["executemany", "values", "pipeline", "prepared"])
async def test_batches_are_queued_whole(outbox: Outbox, app: psycopg.AsyncConnection, way: str) -> None:
    statement = insertion([], [])
    async with app.cursor() as cursor:
        match way:
            case "executemany":
                await cursor.executemany(statement, [(VOUCHER, f"{number}") for number in range(20)], returning=True)
            case "values":
                many = sql.SQL(", ").join([sql.SQL("('add', {}, {})").format(VOUCHER, f"{n}") for n in range(20)])
                await cursor.execute(
                    sql.SQL("INSERT INTO {} (operation, voucher_id, value) VALUES {} RETURNING id").format(TABLE, many)
                )
                assert len(await cursor.fetchall()) == 20
            case "pipeline":
                async with app.pipeline():
                    for number in range(20):
                        await app.execute(statement, (VOUCHER, f"{number}"))
            case "prepared":
                for number in range(20):
                    await app.execute(statement, (VOUCHER, f"{number}"), prepare=True)
    assert await outbox.statuses() == ["pending"] * 20


async def copy_in(app: psycopg.AsyncConnection, columns: list[str] | None, *lines: list[Any]) -> None:
    listed = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Identifier, columns))) if columns else sql.SQL("")
    async with app.cursor() as cursor, cursor.copy(sql.SQL("COPY {} {} FROM STDIN").format(TABLE, listed)) as copy:
        for line in lines:
            await copy.write_row(line)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (["operation", "voucher_id", "value"], ["add", VOUCHER, "A"]),
        (["id", "operation", "voucher_id", "value", "status"], [None, "add", VOUCHER, "A", "pending"]),
        (None, [{"operation": "add", "voucher_id": VOUCHER, "value": "A"}.get(name) for name in outbox_table.c.keys()]),  # noqa: SIM118 - over the columns it gives columns
    ],
)
async def test_rows_are_copied_in(
    outbox: Outbox, app: psycopg.AsyncConnection, columns: list[str] | None, line: list[Any]
) -> None:
    await copy_in(app, columns, line)
    assert await outbox.statuses() == ["pending"]


async def test_of_rows_copied_in_none_is_queued_where_one_is_queued_already_and_the_error_names_it(
    outbox: Outbox, app: psycopg.AsyncConnection
) -> None:
    await outbox.add("B")
    with pytest.raises(psycopg.errors.UniqueViolation, match="same_add_queued"):
        await copy_in(app, ["operation", "voucher_id", "value"], ["add", VOUCHER, "A"], ["add", VOUCHER, "B"])
    assert await outbox.statuses() == ["pending"]


MERGE_ANEW = """
MERGE INTO mews.voucher_code_outbox AS row
USING (VALUES ('add', %s::uuid, 'A'), ('add', %s::uuid, 'B')) AS wanted (operation, voucher_id, value)
ON (row.voucher_id, row.value) = (wanted.voucher_id, wanted.value) AND row.status IN ('pending', 'sending')
WHEN NOT MATCHED THEN INSERT (operation, voucher_id, value) VALUES (wanted.operation, wanted.voucher_id, wanted.value)
"""


@pytest.mark.parametrize("status", [Status.PENDING, Status.SENDING])
async def test_merge_queues_what_is_not_queued_already(
    outbox: Outbox, app: psycopg.AsyncConnection, status: Status
) -> None:
    if app.info.server_version < 150_000:
        pytest.skip("MERGE came with PostgreSQL 15")
    await outbox.bring(await outbox.add("A"), status)
    await app.execute(MERGE_ANEW, [VOUCHER, VOUCHER])
    assert await outbox.statuses() == [status, "pending"]


MERGE = """
MERGE INTO mews.voucher_code_outbox AS row
USING (VALUES ('add', %s::uuid, 'A'), ('add', %s::uuid, 'B')) AS wanted (operation, voucher_id, value)
ON (row.voucher_id, row.value) = (wanted.voucher_id, wanted.value) AND row.status = 'pending'
WHEN MATCHED THEN UPDATE SET status = 'cancelled'
WHEN NOT MATCHED THEN INSERT (operation, voucher_id, value) VALUES (wanted.operation, wanted.voucher_id, wanted.value)
"""


async def test_merge_queues_and_cancels(outbox: Outbox, app: psycopg.AsyncConnection) -> None:
    if app.info.server_version < 150_000:
        pytest.skip("MERGE came with PostgreSQL 15")
    await app.execute(insertion([], []), [VOUCHER, "A"])
    await app.execute(MERGE, [VOUCHER, VOUCHER])
    assert await outbox.statuses() == ["cancelled", "pending"]


async def test_on_conflict_do_nothing_skips_what_is_queued_and_queues_the_rest(
    outbox: Outbox, app: psycopg.AsyncConnection
) -> None:
    await outbox.add("B")
    queued = await app.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
        "SELECT 'add', %s, unnest(ARRAY['A', 'B', 'A', 'C']) ON CONFLICT DO NOTHING RETURNING value",
        [VOUCHER],
    )
    assert await queued.fetchall() == [("A",), ("C",)]
    assert await outbox.statuses() == ["pending"] * 3


@pytest.mark.parametrize("kind", ["text", "varchar", "unknown", "enum"])
async def test_words_may_be_of_any_type(
    outbox: Outbox, app: psycopg.AsyncConnection, database_url: str, kind: str
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as owner:
        await owner.execute("DROP TYPE IF EXISTS public.change")
        await owner.execute("CREATE TYPE public.change AS ENUM ('add', 'delete')")
    cast = {"text": "%s::text", "varchar": "%s::varchar(10)", "unknown": "%s", "enum": "%s::public.change"}[kind]
    await app.execute(
        f"INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ({cast}, %s, 'A')".encode(),
        ["add", str(VOUCHER)],
    )
    assert await outbox.statuses() == ["pending"]


async def read(app: psycopg.AsyncConnection, lock: str = "") -> dict[str, Any]:
    """The only row, as a mapper reads it."""
    cursor = await app.execute(f"SELECT * FROM mews.voucher_code_outbox {lock}".encode())
    row = await cursor.fetchone()
    assert row is not None
    assert cursor.description is not None
    return dict(zip([column.name for column in cursor.description], row, strict=True))


async def write_back(app: psycopg.AsyncConnection, row: dict[str, Any]) -> int:
    """Sends every column back, under an optimistic lock, as mappers do; how many rows that changed."""
    names = [name for name in row if name != "id"]
    changes = sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(name), row[name]) for name in names)
    statement = sql.SQL("UPDATE {} SET {} WHERE id = {} AND status = 'pending'").format(TABLE, changes, row["id"])
    return (await app.execute(statement)).rowcount


@pytest.mark.parametrize("lock", ["", "FOR UPDATE", "FOR NO KEY UPDATE", "FOR SHARE", "FOR UPDATE SKIP LOCKED"])
async def test_a_cancel_may_send_every_column_back(outbox: Outbox, app: psycopg.AsyncConnection, lock: str) -> None:
    await app.execute(insertion([], []), [VOUCHER, "A"])
    async with app.transaction():
        assert await write_back(app, {**await read(app, lock), "status": "cancelled"}) == 1
    assert await outbox.statuses() == ["cancelled"]


async def test_a_row_sent_back_as_it_was_read_stays_as_it_is(outbox: Outbox, app: psycopg.AsyncConnection) -> None:
    row_id = await outbox.add("THEIRS")
    before = await outbox.row(row_id)
    assert await write_back(app, await read(app)) == 1
    assert await outbox.row(row_id) == before


@pytest.mark.parametrize("name", ["value", "voucher_id", "idempotency_key", "queued_by", "next_attempt_at", "attempts"])
async def test_nothing_but_the_cancel_is_written_on_the_way(
    outbox: Outbox, app: psycopg.AsyncConnection, name: str
) -> None:
    await app.execute(insertion([], []), [VOUCHER, "A"])
    row = await read(app)
    kind = outbox_table.c[name].type
    forged: Any = "forged" if isinstance(kind, Text) else 7 if isinstance(kind, Integer) else None
    if isinstance(row[name], UUID):
        forged = uuid4()
    elif forged is None:
        forged = "2001-01-01"
    with pytest.raises(psycopg.errors.CheckViolation, match="only status, not_before, note and priority"):
        await write_back(app, {**row, "status": "cancelled", name: forged})
    assert await outbox.statuses() == ["pending"]


# Settings of the session.


@pytest.mark.parametrize(
    "setting",
    [
        "search_path = 'public'",
        "search_path = ''",
        "datestyle = 'SQL, DMY'",
        "intervalstyle = 'iso_8601'",
        "standard_conforming_strings = off",
        "backslash_quote = off",
        "transform_null_equals = on",
        "row_security = off",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_isolation = 'repeatable read'",
        "enable_indexscan = off",
        "plan_cache_mode = 'force_generic_plan'",
        "client_encoding = 'LATIN1'",
        "plpgsql.extra_errors = 'all'",
        "timezone = 'Asia/Kathmandu'",
    ],
)
async def test_no_setting_of_a_session_changes_what_is_queued(
    outbox: Outbox, app: psycopg.AsyncConnection, setting: str
) -> None:
    await app.execute(f"SET {setting}".encode())
    statement = (
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, not_before, validity_end_utc) VALUES "
    )
    await app.execute(statement.encode() + b"('add', %s, 'A', NULL, '2099-02-01Z')", [VOUCHER])
    await app.execute(insertion(["idempotency_key"], ["'k'"]), [VOUCHER, "B"])
    await app.execute(insertion(["idempotency_key"], ["'k'"]), [VOUCHER, "B"])
    await app.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('delete', %s, 'A')", [VOUCHER]
    )
    await app.execute("UPDATE mews.voucher_code_outbox SET status = 'cancelled' WHERE value = 'B'")
    with pytest.raises(psycopg.errors.CheckViolation, match="value: has 0 characters"):
        await app.execute(insertion([], []), [VOUCHER, ""])
    assert await outbox.statuses() == ["cancelled"] * 3
