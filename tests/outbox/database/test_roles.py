"""What readers and writers may do, and that the daemon needs no right to make roles."""

from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Integer, Text
from sqlalchemy.dialects.postgresql import UUID

from sync.core.errors import DatabaseError
from sync.outbox.claims import as_daemon
from sync.outbox.due import Wanted, lock_due
from sync.outbox.rules import Status
from sync.outbox.tables import outbox as outbox_table
from sync.postgres.engine import make_engine
from sync.postgres.metadata import TIMESTAMP
from sync.postgres.migrations import migrate
from sync.schema import metadata
from tests.support.database import CONNECTION, code, rows, store, uuid
from tests.support.hostile import new_owner
from tests.support.postgres import new_database
from tests.support.queue import (
    ADD,
    DELETE,
    DELETES,
    HOTEL,
    KEY,
    ON_CONFLICT,
    SAME_ADD,
    SENT_UTC,
    VOUCHER,
    Outbox,
    assert_both_are_cancelled,
    change,
    execute,
)
from tests.support.users import login, user

DENIED = r"42501\): permission denied"


async def relations(outbox: Outbox, schema: str) -> list[str]:
    found = await rows(
        outbox.engine,
        "SELECT format('%I.%I', schemaname, name) AS name FROM (SELECT schemaname, tablename AS name FROM pg_tables "
        "UNION ALL SELECT schemaname, viewname FROM pg_views "
        "UNION ALL SELECT schemaname, sequencename FROM pg_sequences) AS relation WHERE schemaname = :schema",
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


FORGED = {
    Integer: "1",
    Text: "'forged'",
    UUID: "gen_random_uuid()",
    type(TIMESTAMP): "now()",
}
INPUTS = {"operation", "voucher_id", "value", "validity_start_utc", "validity_end_utc", "voucher_code_id"}
INPUTS |= {"idempotency_key", "not_before", "after_id", "note"}


def forged(name: str) -> str:
    """What a writer might like to see in a column of the daemon's."""
    return next(value for kind, value in FORGED.items() if isinstance(outbox_table.c[name].type, kind))


async def test_a_writer_fills_no_other_column(outbox: Outbox, writer: Outbox) -> None:
    for name in set(outbox_table.c.keys()) - INPUTS - {"id", "created_at"}:
        with pytest.raises(DatabaseError, match=r"23514.*(fills the other columns|priority: only the owner)"):
            await execute(
                writer.engine,
                f"INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, {name}) "
                f"VALUES ('add', :v, 'A', {forged(name)})",
                v=VOUCHER,
            )
    assert await outbox.statuses() == []


@pytest.mark.long
async def test_a_writer_changes_nothing_else(outbox: Outbox, writer: Outbox) -> None:
    mine = await writer.add()
    await outbox.add("THEIRS")
    before = await rows(outbox.engine, "SELECT * FROM mews.voucher_code_outbox ORDER BY id")
    for attempt in [*WRITES, "INSERT INTO mews.voucher_code_outbox_attempts DEFAULT VALUES"]:
        with pytest.raises(DatabaseError, match=DENIED):
            await execute(writer.engine, attempt)
    for name in set(outbox_table.c.keys()) - {"id", "status"}:
        for also in ("", ", status = 'cancelled'"):
            if name in {"not_before", "note"} and also:
                continue  # may come with a cancel, where nobody reads it any more
            with pytest.raises(DatabaseError, match=r"42501|23514"):
                await execute(
                    writer.engine,
                    f"UPDATE mews.voucher_code_outbox SET {name} = {forged(name)}{also} WHERE id = :id",
                    id=mine,
                )
    assert await rows(outbox.engine, "SELECT * FROM mews.voucher_code_outbox ORDER BY id") == before


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
    for deleter in (outbox, writer):
        add = await writer.add("SUMMER")
        await assert_both_are_cancelled(outbox, add, await deleter.delete("SUMMER"))


async def test_a_writer_s_delete_of_another_s_add_goes_after_it(outbox: Outbox, writer: Outbox) -> None:
    for status in (Status.PENDING, Status.HELD):
        add = await outbox.add(f"SUMMER {status}")
        await outbox.bring(add, status)
        delete = await writer.delete(f"SUMMER {status}")
        assert [await outbox.status(one) for one in (add, delete)] == [status, Status.PENDING]
        async with as_daemon(outbox.engine) as tx:
            assert delete not in [row.id for row in await lock_due(tx, Wanted(DELETES, 10))]
    with pytest.raises(DatabaseError, match=SAME_ADD):
        await writer.add("SUMMER held")


# Keys belong to who queued.


@pytest.mark.parametrize("suffix", ON_CONFLICT)
@pytest.mark.parametrize("other", [ADD, {**ADD, "value": "WINTER"}, DELETE])
async def test_another_s_key_swallows_nothing(
    outbox: Outbox, writer: Outbox, other: dict[str, Any], suffix: str
) -> None:
    first = await outbox.queue(**ADD, **KEY)
    if other == ADD:
        await outbox.bring(first, Status.DONE)
    await writer.queue(**other, **KEY, suffix=suffix)
    await writer.queue_nothing(**other, **KEY, suffix=suffix)
    assert len(await outbox.statuses()) == 2


@pytest.mark.long
async def test_who_may_make_no_roles_can_migrate_and_use_the_outbox(server_url: str, template: str) -> None:
    with new_database(server_url) as database, new_owner(database) as url:
        migrate(url)
        engine = make_engine(url)
        outbox = Outbox(engine)
        await outbox.know(VOUCHER.int)
        add = await outbox.add("SUMMER")
        await assert_both_are_cancelled(outbox, add, await outbox.delete("SUMMER"))
        await outbox.bring(failed := await outbox.add(), Status.FAILED)
        await outbox.change(failed, status="pending")
        await engine.dispose()


@pytest.mark.long
@pytest.mark.usefixtures("template")  # with it the server has the roles
def test_roles_that_stand_already_get_their_grants_from_who_may_make_none(server_url: str) -> None:
    with new_database(server_url) as database, new_owner(database) as url:
        migrate(url)
        with psycopg.connect(url) as owner:
            granted = owner.execute(
                "SELECT has_schema_privilege('mews_reader', 'mews', 'USAGE'), "
                "has_table_privilege('mews_reader', 'mews.voucher_codes', 'SELECT'), "
                "has_column_privilege('mews_writer', 'mews.voucher_code_outbox', 'value', 'INSERT')"
            ).fetchone()
    assert granted == (True, True, True)


@pytest.mark.long
async def test_who_is_the_owner_by_set_role_alone_is_the_operator(server_url: str) -> None:
    """As users that a secrets manager makes for a day: they inherit nothing, and act as a role that stays."""
    with new_database(server_url) as url, new_owner(url) as owner_url, login(url) as acting_url:
        migrate(owner_url)
        owner, acting = (sql.Identifier(str(conninfo_to_dict(one)["user"])) for one in (owner_url, acting_url))
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(sql.SQL("ALTER ROLE {} NOINHERIT").format(acting))
            admin.execute(sql.SQL("GRANT {} TO {}").format(owner, acting))
            admin.execute(sql.SQL("ALTER ROLE {} SET role = {}").format(acting, owner))
        engine = make_engine(acting_url)
        outbox = Outbox(engine)
        row_id = await outbox.add("SUMMER", priority=1)
        await outbox.bring(row_id, Status.HELD)
        await outbox.change(row_id, status="pending")
        assert await outbox.status(row_id) == Status.PENDING
        await engine.dispose()
