"""What operators may do to what others queued, statement by statement, and that each row says who did it."""

from typing import Any

import pytest
from sqlalchemy import text

from sync.core.errors import DatabaseError
from sync.outbox.claims import as_daemon
from sync.outbox.rules import MOVES, USER_MOVES, Status
from sync.outbox.tables import outbox as outbox_table
from sync.schema import metadata
from sync.service.roles import MOVED, TOLD, TOLD_IN_PART
from tests.outbox.database.test_roles import DENIED, forged, relations
from tests.support.database import rows
from tests.support.queue import KEY, VOUCHER, Outbox, as_user, change, execute, is_allowed
from tests.support.users import user

ALL = "SELECT * FROM mews.voucher_code_outbox ORDER BY id"
HOW = {
    (Status.PENDING, Status.CANCELLED): "cancelled",
    (Status.HELD, Status.CANCELLED): "cancelled",
    (Status.HELD, Status.PENDING): "released",
    (Status.FAILED, Status.PENDING): "retried",
}
OTHERS = [
    f"{verb} {table.fullname} {rest}"
    for table in metadata.sorted_tables
    if table.schema == "mews"
    for verb, rest in (("DELETE FROM", ""), ("TRUNCATE", "CASCADE"), ("INSERT INTO", "DEFAULT VALUES"))
    if table.name != "voucher_targets"
]


async def name_of(someone: Outbox) -> str:
    (row,) = await rows(someone.engine, "SELECT session_user::text AS name")
    return str(row["name"])


async def by_hand(outbox: Outbox, row_id: int) -> tuple[Any, Any]:
    """Who last changed a row, and how; when is known just when somebody did."""
    row = await outbox.row(row_id)
    assert (row["changed_at"] is None) == (row["changed_by"] is None)
    return row["changed_by"], row["changed_how"]


def test_how_a_change_is_called_is_known_of_every_move_of_users() -> None:
    assert set(HOW) == {(old, new) for old, targets in USER_MOVES.items() for new in targets}


@pytest.mark.parametrize("old", Status)
@pytest.mark.parametrize("new", Status)
async def test_an_operator_makes_the_moves_of_users_and_no_other(
    outbox: Outbox, writer: Outbox, operator: Outbox, old: Status, new: Status
) -> None:
    row_id = await writer.add()
    await outbox.bring(row_id, old)
    before = await outbox.row(row_id)
    if not is_allowed(USER_MOVES, old, new):
        with pytest.raises(DatabaseError, match="23514"):
            await operator.change(row_id, status=new)
        assert await outbox.row(row_id) == before
        return
    await operator.change(row_id, status=new)
    assert await outbox.status(row_id) is new
    expected = (await name_of(operator), HOW[old, new]) if old != new else (None, None)
    assert await by_hand(outbox, row_id) == expected


async def test_what_an_operator_edits_is_noted_too(outbox: Outbox, writer: Outbox, operator: Outbox) -> None:
    for column, value in (("note", "'looked at'"), ("priority", "3"), ("not_before", "now() + interval '1 day'")):
        row_id = await writer.add()
        await execute(operator.engine, f"UPDATE mews.voucher_code_outbox SET {column} = {value} WHERE id = {row_id}")
        assert await by_hand(outbox, row_id) == (await name_of(operator), "edited")


@pytest.mark.long
async def test_an_operator_changes_no_other_column(outbox: Outbox, writer: Outbox, operator: Outbox) -> None:
    row_id = await writer.add()
    before = await rows(outbox.engine, ALL)
    for name in set(outbox_table.c.keys()) - set(MOVED):
        for also in ("", ", status = 'cancelled'"):
            with pytest.raises(DatabaseError, match=r"42501|428C9"):
                await execute(
                    operator.engine,
                    f"UPDATE mews.voucher_code_outbox SET {name} = {forged(name)}{also} WHERE id = {row_id}",
                )
    assert await rows(outbox.engine, ALL) == before


async def test_an_operator_queues_removes_and_empties_nothing(outbox: Outbox, operator: Outbox) -> None:
    await outbox.add()
    before = await rows(outbox.engine, ALL)
    for attempt in [*OTHERS, "SELECT nextval('mews.voucher_code_outbox_id_seq')"]:
        with pytest.raises(DatabaseError, match=DENIED):
            await execute(operator.engine, attempt)
    with pytest.raises(DatabaseError, match=DENIED):
        await operator.add()
    assert await rows(outbox.engine, ALL) == before


@pytest.mark.long
async def test_an_operator_sees_all_of_mews_and_of_sync_what_status_tells_and_no_token(
    outbox: Outbox, operator: Outbox
) -> None:
    for relation in await relations(outbox, "mews"):
        await rows(operator.engine, f"SELECT * FROM {relation}")
    seen = set[str]()
    for relation in await relations(outbox, "sync"):
        for column in await columns(outbox, relation):
            if relation in TOLD and column in TOLD_IN_PART.get(relation, [column]):
                await rows(operator.engine, f"SELECT {column} FROM {relation}")
                seen.add(f"{relation}.{column}")
            else:
                with pytest.raises(DatabaseError, match=DENIED):
                    await rows(operator.engine, f"SELECT {column} FROM {relation}")
        for attempt in (f"DELETE FROM {relation}", f"INSERT INTO {relation} DEFAULT VALUES"):
            with pytest.raises(DatabaseError, match=f"{DENIED}|cannot .* view"):
                await execute(operator.engine, attempt)
    assert {one.partition(".")[2].partition(".")[0] for one in seen} == {name.partition(".")[2] for name in TOLD}
    assert not [one for one in seen if ("token" in one and "fingerprint" not in one) or one.endswith((".raw", ".key"))]


async def columns(outbox: Outbox, relation: str) -> list[str]:
    """The columns of a table or view."""
    statement = (
        "SELECT quote_ident(attname) AS attname FROM pg_attribute "
        "WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped"
    )
    return [row["attname"] for row in await rows(outbox.engine, statement, name=relation)]


async def test_what_runs_as_its_owner_runs_for_no_table_of_an_operator_s_own(outbox: Outbox, operator: Outbox) -> None:
    functions = await rows(
        outbox.engine, "SELECT oid::regproc::text AS name FROM pg_proc WHERE pronamespace = to_regnamespace('sync')"
    )
    assert len(functions) > 5
    for function in functions:
        with pytest.raises(DatabaseError, match="permission denied for function"):
            await set_off_by_a_table_of_ones_own(operator, function["name"])


async def set_off_by_a_table_of_ones_own(someone: Outbox, function: str) -> None:
    """Makes a trigger of a function."""
    async with as_user(someone.engine) as tx:
        await tx.execute(text("CREATE TEMPORARY TABLE mine (LIKE mews.voucher_code_outbox)"))
        await tx.execute(text(f"CREATE TRIGGER mine BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION {function}()"))


@pytest.mark.parametrize("old", [Status.PENDING, Status.HELD, Status.FAILED, Status.UNCERTAIN])
async def test_an_operator_is_not_the_daemon_for_saying_so(outbox: Outbox, operator: Outbox, old: Status) -> None:
    row_id = await outbox.add()
    await outbox.bring(row_id, old)
    for new in MOVES[old] - USER_MOVES.get(old, frozenset()):
        with pytest.raises(DatabaseError):
            async with as_daemon(operator.engine) as tx:
                await change(tx, row_id, status=new)
    assert await outbox.status(row_id) is old


async def test_an_operator_makes_himself_no_more_than_that(outbox: Outbox, operator: Outbox) -> None:
    for attempt in (
        "SET ROLE mews_writer",
        "ALTER TABLE mews.voucher_code_outbox DISABLE TRIGGER check_update",
        "ALTER TABLE mews.voucher_code_outbox OWNER TO mews_operator",
        "CREATE OR REPLACE FUNCTION mews.settled_before() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
        "SET session_replication_role = replica",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE TABLE mews.mine (id int)",
        "SELECT sync.queue_change()",
    ):
        with pytest.raises(DatabaseError, match=r"\(42501\)"):
            await execute(operator.engine, attempt)
    # To grant what one does not have is a warning, and nothing is granted.
    await execute(operator.engine, "GRANT INSERT ON mews.voucher_code_outbox TO mews_operator")
    with pytest.raises(DatabaseError, match=DENIED):
        await operator.add()


async def test_who_is_no_member_of_it_operates_nothing(outbox: Outbox, database_url: str) -> None:
    """A stranger who was granted the columns themselves, as whoever may grant them can do."""
    row_id = await outbox.add()
    await outbox.bring(row_id, Status.HELD)
    async with user(database_url, "mews_reader") as stranger:
        name = await name_of(stranger)
        with pytest.raises(DatabaseError, match=DENIED):
            await stranger.change(row_id, status="pending")
        await execute(outbox.engine, f"GRANT UPDATE (status) ON mews.voucher_code_outbox TO {name}")
        with pytest.raises(DatabaseError, match=r"42501.*you may cancel what you queued yourself"):
            await stranger.change(row_id, status="pending")
        await execute(outbox.engine, f"REVOKE UPDATE (status) ON mews.voucher_code_outbox FROM {name}")
    assert await outbox.status(row_id) is Status.HELD


async def test_nobody_says_of_a_row_that_another_has_changed_it(outbox: Outbox, writer: Outbox) -> None:
    for name in ("changed_by", "changed_at", "changed_how"):
        for someone in (outbox, writer):
            with pytest.raises(DatabaseError, match=r"23514.*fills the other columns"):
                await execute(
                    someone.engine,
                    f"INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, {name}) "
                    f"VALUES ('add', :v, 'A', {forged(name)})",
                    v=VOUCHER,
                )


async def test_the_daemon_leaves_who_did_it_as_it_is(outbox: Outbox, operator: Outbox) -> None:
    row_id = await outbox.add()
    await outbox.bring(row_id, Status.FAILED)
    await operator.change(row_id, status="pending")
    await outbox.bring(row_id, Status.DONE)
    assert await by_hand(outbox, row_id) == (await name_of(operator), "retried")


async def test_an_add_that_a_delete_took_back_says_whose_delete_it_was(outbox: Outbox, writer: Outbox) -> None:
    add = await writer.add("SUMMER")
    await writer.delete("SUMMER")
    assert await by_hand(outbox, add) == (await name_of(writer), "taken back")


async def test_an_owner_who_moves_a_row_is_named(outbox: Outbox) -> None:
    row_id = await outbox.add(**KEY)
    async with as_user(outbox.engine) as tx:
        await change(tx, row_id, status="cancelled")
    assert await by_hand(outbox, row_id) == (await name_of(outbox), "cancelled")


async def test_an_operator_sets_targets_and_the_row_says_who_it_was(
    outbox: Outbox, operator: Outbox, writer: Outbox
) -> None:
    setting = (
        "INSERT INTO mews.voucher_targets (voucher_id, target, changed_by) VALUES (:v, 500, 'somebody else') "
        "ON CONFLICT (voucher_id) DO UPDATE SET target = excluded.target + 1"
    )
    for someone in (outbox, operator):
        await execute(someone.engine, setting, v=VOUCHER)
        (row,) = await rows(outbox.engine, "SELECT changed_by, changed_at FROM mews.voucher_targets")
        assert row["changed_by"] == await name_of(someone)
        assert row["changed_at"] is not None
    (row,) = await rows(outbox.engine, "SELECT target, short_of_target FROM mews.voucher_stock")
    assert (row["target"], row["short_of_target"]) == (501, 501)
    for denied in (setting, "DELETE FROM mews.voucher_targets", "UPDATE mews.voucher_targets SET target = 1"):
        with pytest.raises(DatabaseError, match=DENIED):
            await execute(writer.engine, denied, **({"v": VOUCHER} if denied is setting else {}))
    with pytest.raises(DatabaseError, match="voucher_targets_target_check"):
        await execute(operator.engine, "UPDATE mews.voucher_targets SET target = -1")
    with pytest.raises(DatabaseError, match="note: has 10001 characters, 10000 are the most"):
        await execute(operator.engine, "UPDATE mews.voucher_targets SET note = repeat('x', 10001)")
    await execute(operator.engine, "DELETE FROM mews.voucher_targets")
