"""`voucher-sync outbox replace` and `extend`: two changes in an order, made in the API by the next cycle."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from sync.cli.commands import voucher_sync
from sync.demo.simulator import Operation
from tests.cli.conftest import SHOWN_SOON, Cli
from tests.cli.outbox.helpers import OTHER, VOUCHER, query
from tests.support.mirror import Mirror

UNTIL = datetime(2027, 10, 1, tzinfo=UTC)


@pytest.fixture
async def known(mirror: Mirror, cli: Cli) -> AsyncIterator[Mirror]:
    """The hotel, mirrored; its voucher is called Summer, and has the codes A, B and C."""
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
        yield mirror


def writes(mirror: Mirror) -> list[Operation]:
    return [
        one.operation
        for one in mirror.simulator.requests
        if one.operation in (Operation.ADD_CODES, Operation.DELETE_CODES)
    ]


async def usable(mirror: Mirror) -> dict[str, datetime | None]:
    """The codes of the API that can be used, with the end of their validity."""
    return {code.value or "": code.validity_end_utc for code in mirror.world.codes.truth.values() if code.is_active}


@pytest.mark.long
async def test_a_code_is_replaced_by_another_which_stands_first(cli: Cli, known: Mirror) -> None:
    call = ("outbox", "replace", "--voucher", "Summer", "A", "NEW", "--to", "2027-10-01", "--note", "n")
    queued = await cli(*call, settings=known.environment)
    assert (queued.code, queued.stdout) == (
        0, "Row 1, the add, is pending\nRow 2, the delete, is pending: waits until row 1 is done\n"
    )  # fmt: skip
    assert (await cli("once", settings=known.environment | SHOWN_SOON)).code == 0
    assert writes(known) == [Operation.ADD_CODES, Operation.DELETE_CODES]
    assert await usable(known) == {"NEW": UNTIL, "B": None, "C": None}
    rows = await known.rows("SELECT status, note FROM mews.voucher_code_outbox")
    assert [(row["status"], row["note"]) for row in rows] == [("done", "n")] * 2


@pytest.mark.long
async def test_a_code_is_extended_by_its_delete_and_an_add_behind_it(cli: Cli, known: Mirror) -> None:
    (code,) = await known.rows("SELECT id FROM mews.voucher_codes WHERE value = 'A'")
    call = ("outbox", "extend", "--code", str(code["id"]), "--to", "2027-10-01")
    queued = await cli(*call, settings=known.environment)
    assert (queued.code, queued.stdout) == (
        0, "Row 1, the delete, is pending\nRow 2, the add, is pending: waits until row 1 is done\n"
    )  # fmt: skip
    assert (await cli("once", settings=known.environment | SHOWN_SOON)).code == 0
    assert writes(known) == [Operation.DELETE_CODES, Operation.ADD_CODES]
    assert await usable(known) == {"A": UNTIL, "B": None, "C": None}
    for end in ("2027-10-01", "2027-10-01T00:00:00.9Z"):
        same = await cli("outbox", "extend", "--voucher", "Summer", "A", "--to", end, settings=known.environment)
        assert (same.code, same.stderr) == (1, "Error: the code has this validity already, so nothing is queued\n")
    # What is not said stays as it is.
    again = ("outbox", "extend", "--voucher", "Summer", "A", "--from", "2027-05-01")
    assert (await cli(*again, settings=known.environment)).code == 0
    (row,) = await known.rows("SELECT * FROM mews.voucher_code_outbox WHERE operation = 'add' AND status = 'pending'")
    assert (row["validity_start_utc"], row["validity_end_utc"]) == (datetime(2027, 5, 1, tzinfo=UTC), UNTIL)


@pytest.mark.long
async def test_the_same_call_with_its_key_queues_nothing_again(cli: Cli, known: Mirror) -> None:
    call = ("outbox", "replace", "--voucher", "Summer", "A", "NEW", "--key", "k" * 246)
    assert (await cli(*call, settings=known.environment)).code == 0
    assert (await cli("once", settings=known.environment | SHOWN_SOON)).code == 0
    again = await cli(*call, settings=known.environment)
    assert (again.code, again.stdout) == (
        0, "Row 1, the add, is done, queued before under the same key\n"
        "Row 2, the delete, is done, queued before under the same key\n"
    )  # fmt: skip
    assert len(await known.rows("SELECT FROM mews.voucher_code_outbox")) == 2


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("call", "other"),
    [
        ("replace --voucher Summer A NEW", "replace --voucher Summer B NEWER"),
        ("replace --voucher Summer A NEW", "replace --voucher Summer A NEWER"),
        ("replace --voucher Summer A NEW", "replace --voucher Summer B NEW"),
        ("replace --voucher Summer A NEW", "extend --voucher Summer A --to 2027-10-01"),
        ("extend --voucher Summer A --to 2027-10-01", "extend --voucher Summer A --to 2028-10-01"),
        ("extend --voucher Summer A --to 2027-10-01", f"extend --code {OTHER} --to 2027-10-01"),
    ],
)
async def test_a_key_belongs_to_one_pair(cli: Cli, known: Mirror, call: str, other: str) -> None:
    assert (await cli("outbox", *call.split(), "--key", "order 17", settings=known.environment)).code == 0
    ended = await cli("outbox", *other.split(), "--key", "order 17", settings=known.environment)
    assert (ended.code, ended.stdout) == (1, "")
    assert "rows 1 and 2 have the same key and ask for something else" in ended.stderr


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("replace --voucher Summer GONE NEW", "the mirror shows no such active code"),
        (f"replace --code {OTHER} NEW", "the mirror shows no such active code"),
        ("replace --voucher Summer A A", "the new code is the old one: `voucher-sync outbox extend`"),
        ("extend --voucher Summer GONE --to 2027-10-01", "the mirror shows no such active code"),
        ("extend --voucher Winter A --to 2027-10-01", "the mirror knows no voucher of this name"),
        ("replace --voucher Summer A B", "somebody queued the same"),
        (
            f"replace --voucher Summer A NEW --key {'k' * 247}",
            "has 247 characters, 246 are the most for a change of two",
        ),
    ],
)
async def test_what_cannot_be_a_pair_queues_neither(cli: Cli, known: Mirror, call: str, words: str) -> None:
    if words.startswith("somebody"):
        words = "the same add is queued already, as row 1"
        assert (await cli("outbox", "add", "--voucher", "Summer", "B", settings=known.environment)).code == 0
    before = await known.rows("SELECT id FROM mews.voucher_code_outbox")
    ended = await cli("outbox", *call.split(), settings=known.environment)
    assert (ended.code, ended.stdout) == (1, "")
    assert words in ended.stderr
    assert await known.rows("SELECT id FROM mews.voucher_code_outbox") == before


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("replace NEW", "name the code by --code ID and NEW, or --voucher, OLD and NEW"),
        (f"replace --voucher {VOUCHER} NEW", "name the code by"),
        (f"replace --code {OTHER} OLD NEW", "name the code by"),
        (f"replace --code {OTHER} --voucher {VOUCHER} OLD NEW", "name the code by"),
        (f"extend --voucher {VOUCHER} --to 2027-10-01", "name the code by --code ID alone, or by --voucher and VALUE"),
        (f"extend --code {OTHER} A --to 2027-10-01", "name the code by"),
        (f"extend --code {OTHER}", "say by --from or --to how long"),
    ],
)
def test_a_call_that_is_wrong(call: str, words: str) -> None:
    result = CliRunner().invoke(voucher_sync, ["outbox", *call.split()])
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


@pytest.mark.long
async def test_a_change_waits_for_a_row_that_is_named(cli: Cli, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url}
    await cli("outbox", "add", "--voucher", VOUCHER, "NEW", settings=settings)
    queued = await cli("outbox", "delete", "--voucher", VOUCHER, "OLD", "--after", "1", settings=settings)
    assert queued.code == 0
    assert query(
        database_url, "SELECT after_id, last_error FROM mews.voucher_code_outbox WHERE operation = 'delete'"
    ) == [(1, "waits until row 1 is done")]
    refused = await cli("outbox", "add", "--voucher", VOUCHER, "X", "--after", "9", settings=settings)
    assert (refused.code, refused.stderr) == (
        1,
        "Error: after_id: must be the number of a row that was queued before\n",
    )
