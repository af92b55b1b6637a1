"""The database numbers the rows, whoever would rather do so: they are sent in this order."""

import psycopg
import pytest

from tests.outbox.database.test_tools import ids, insertion
from tests.support.queue import VOUCHER, Outbox


async def test_no_number_is_chosen_that_a_later_row_would_get(outbox: Outbox, app: psycopg.AsyncConnection) -> None:
    await app.execute(insertion([], []), [VOUCHER, "A"])
    (row_id,) = await ids(outbox)
    with pytest.raises(psycopg.errors.CheckViolation, match="id: the database numbers the rows"):
        async with (
            app.cursor() as cursor,
            cursor.copy("COPY mews.voucher_code_outbox (id, operation, voucher_id, value) FROM STDIN") as copy,
        ):
            await copy.write_row([row_id + 5, "add", VOUCHER, "B"])
    with pytest.raises(psycopg.errors.CheckViolation, match="id: the database numbers the rows"):
        await app.execute(
            "INSERT INTO mews.voucher_code_outbox (id, operation, voucher_id, value) OVERRIDING SYSTEM VALUE "
            "VALUES (%s, 'add', %s, 'B')",
            [row_id + 5, VOUCHER],
        )
    assert await ids(outbox) == [row_id]


GIVEN = (
    "INSERT INTO mews.voucher_code_outbox (id, operation, voucher_id, value) OVERRIDING SYSTEM VALUE "
    "VALUES (%s, 'delete', %s, 'A')"
)


async def test_nobody_goes_before_others_by_a_number_of_his_own(outbox: Outbox, app: psycopg.AsyncConnection) -> None:
    add = await outbox.add("A")
    await app.execute(insertion([], []), [VOUCHER, "B"])
    for number in (1, add):
        await app.execute(GIVEN, [number, VOUCHER])
    first, *later = await ids(outbox)
    assert (first, len(later)) == (add, 3)


@pytest.mark.parametrize("number", [-5, 0, 1, 2**40])
async def test_a_number_of_one_s_own_is_refused_where_none_was_given(
    outbox: Outbox, app: psycopg.AsyncConnection, number: int
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="id: the database numbers the rows"):
        await app.execute(GIVEN, [number, VOUCHER])
    assert await ids(outbox) == []


@pytest.mark.parametrize("overriding", ["", "OVERRIDING SYSTEM VALUE", "OVERRIDING USER VALUE"])
async def test_no_writer_takes_a_number_from_the_sequence_beforehand(
    outbox: Outbox, app: psycopg.AsyncConnection, overriding: str
) -> None:
    """As Hibernate does by `GenerationType.SEQUENCE`, fifty at a time, by which later rows would go first."""
    add = await outbox.add("A")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied for sequence"):
        await app.execute("SELECT nextval('mews.voucher_code_outbox_id_seq')")
    await app.rollback()
    columns = f"(id, operation, voucher_id, value) {overriding}"
    queue = f"INSERT INTO mews.voucher_code_outbox {columns} VALUES (%s, 'add', %s, 'B')"
    refused = {"": psycopg.errors.GeneratedAlways, "OVERRIDING SYSTEM VALUE": psycopg.errors.CheckViolation}
    if overriding in refused:
        with pytest.raises(refused[overriding]):
            await app.execute(queue.encode(), [add + 50, VOUCHER])
        assert await ids(outbox) == [add]
    else:  # PostgreSQL's own way to have a given number passed over
        await app.execute(queue.encode(), [add + 50, VOUCHER])
        first, later = await ids(outbox)
        assert first == add < later < add + 50


@pytest.mark.parametrize("reading", ["lastval()", "currval('mews.voucher_code_outbox_id_seq')"])
async def test_the_new_number_is_read_from_the_sequence(
    outbox: Outbox, app: psycopg.AsyncConnection, reading: str
) -> None:
    """As PDO and older dialects of Hibernate do."""
    await app.execute(insertion([], []), [VOUCHER, "A"])
    assert await (await app.execute(f"SELECT {reading}".encode())).fetchone() == (*await ids(outbox),)
