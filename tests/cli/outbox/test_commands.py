"""`voucher-sync outbox`: its help, calls that are wrong, and queueing single changes."""

import asyncio
import os
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from sync.cli.commands import voucher_sync
from sync.cli.outbox.commands import outbox
from tests.cli.conftest import Cli
from tests.cli.outbox.helpers import OTHER, VOUCHER, add_row, query, values

SECRET = "SUMMER-2027"
COMMANDS = tuple(outbox.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    result = CliRunner().invoke(voucher_sync, ["outbox", command, "--help"])
    assert result.exit_code == 0
    assert f"voucher-sync outbox {command} " in result.stdout.partition("Example")[2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (f"add {SECRET}", "Missing option '--voucher'"),
        (f"add --voucher {VOUCHER} {SECRET} --to 31.12.2027", "is no instant: write it as 2027-12-31"),
        ("delete", "name the code by --code ID, or by --voucher and its VALUE"),
        (f"delete --voucher {VOUCHER}", "name the code by"),
        (f"delete {SECRET}", "name the code by"),
        (f"delete --voucher {VOUCHER} A\udcff", "is not a text in UTF-8"),
        (f"delete --code {VOUCHER} --voucher {VOUCHER} {SECRET}", "name the code by"),
        ("list --status lost", "'lost' is not one of 'pending', 'sending'"),
        ("list --limit 0", "0 is not in the range"),
        ("list --limit few", "'few' is no whole number"),
        (f"generate --voucher {VOUCHER} --pattern A --count 1e3", "'1e3' is no whole number"),
        (f"add --voucher {VOUCHER} {SECRET} --priority high", "'high' is no whole number"),
        ("show 0", "0 is not in the range"),
        ("show abc", "'abc' is no row's number: see `voucher-sync outbox list`"),
        ("cancel 1 abc", "'abc' is no row's number"),
        (f"add --voucher {VOUCHER} {SECRET} --after abc", "'abc' is no row's number"),
        ("retry", "give the rows' numbers, or --all"),
        ("cancel 1 --all", "give the rows' numbers, or --all"),
        (f"release 1 --voucher {VOUCHER}", "give the rows' numbers, or --all"),
        (f"retry --voucher {VOUCHER}", "give the rows' numbers, or --all"),
        ("cancel 99999999999999999999", "is not in the range"),
    ],
)
def test_a_call_that_is_wrong(call: str, words: str) -> None:
    result = CliRunner().invoke(voucher_sync, ["outbox", *call.split()])
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


async def test_what_a_pipe_says_of_the_database_holds_to_the_end(cli: Cli, database_url: str, tmp_path: Path) -> None:
    pipe = tmp_path / "url"
    os.mkfifo(pipe, 0o600)
    written = asyncio.create_task(asyncio.to_thread(pipe.write_text, database_url))
    ended = await cli("outbox", "add", "--voucher", VOUCHER, SECRET, settings={"DATABASE_URL_FILE": str(pipe)})
    await written
    assert (ended.code, ended.stdout) == (0, "Row 1 is pending\n")
    assert "no daemon is at work" in ended.stderr
    assert values(database_url) == [SECRET]


@pytest.mark.long
async def test_an_add_is_queued_once_and_taken_back_by_a_delete(cli: Cli, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url}
    code = ("--voucher", VOUCHER, SECRET)
    when = ("--from", "2027-06-01", "--to", "2027-09-01T02:00+02:00", "--not-before", "2027-01-01T00:00:00Z")
    first = await cli("outbox", "add", *code, *when, "--key", "k", "--note", "brochure", settings=settings)
    assert (first.code, first.stdout) == (0, "Row 1 is pending\n")
    assert first.stderr.startswith(f"Note: voucher {VOUCHER} is not in the mirror")
    row = query(
        database_url,
        "SELECT operation, voucher_id::text, value, validity_start_utc = '2027-06-01Z', "
        "validity_end_utc = '2027-09-01Z', not_before = '2027-01-01Z', idempotency_key, note "
        "FROM mews.voucher_code_outbox",
    )
    assert row == [("add", VOUCHER, SECRET, True, True, True, "k", "brochure")]

    again = await cli("outbox", "add", *code, *when, "--key", "k", settings=settings)
    assert (again.code, again.stdout) == (0, "Row 1 is pending, queued before under the same key\n")
    same = await cli("outbox", "add", *code, settings=settings)
    assert (same.code, same.stdout) == (1, "")
    told = "the same add is queued already, as row 1. Wait until it is done, or cancel it first."
    assert same.stderr == f"Error: {told}\n"
    assert values(database_url) == [SECRET]

    back = await cli("outbox", "delete", *code, settings=settings)
    ((number,),) = query(database_url, "SELECT id FROM mews.voucher_code_outbox WHERE operation = 'delete'")
    assert back.code == 0
    assert back.stdout == f"Row {number} is cancelled: took back the add in row 1 before it was sent\n"


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--to", "2027-01-01", "--from", "2027-01-02", "A"],
            "validity_end_utc: lies before validity_start_utc",
        ),
        (
            ["--key", "k", "A"],
            "idempotency_key: row 1 has the same key and asks for something else; give each change a key of its own",
        ),
    ],
    ids=["order", "key"],
)
async def test_a_refusal_is_the_databases_own_sentence(
    cli: Cli, database_url: str, arguments: list[str], told: str
) -> None:
    query(
        database_url,
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, idempotency_key) "
        "VALUES ('add', %s, 'B', 'k')",
        VOUCHER,
    )
    ended = await cli("outbox", "add", "--voucher", VOUCHER, *arguments, settings={"DATABASE_URL": database_url})
    assert (ended.code, ended.stdout, ended.stderr) == (1, "", f"Error: {told}\n")
    assert values(database_url) == ["B"]


@pytest.mark.long
async def test_somebody_queues_the_same_at_this_moment(cli: Cli, database_url: str) -> None:
    with psycopg.connect(database_url) as other:
        other.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', %s, %s)",
            [VOUCHER, SECRET],
        )
        call = ("outbox", "add", "--voucher", VOUCHER, SECRET)
        ended = asyncio.ensure_future(cli(*call, settings={"DATABASE_URL": database_url}))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE "
        while query(database_url, waiting + "datname = current_database())") == [(0,)]:
            assert not ended.done()
            await asyncio.sleep(0.02)
        other.commit()
        told = "Error: the same add is queued already, as row 1. Wait until it is done, or cancel it first.\n"
        assert ((await ended).code, (await ended).stderr) == (1, told)
    assert values(database_url) == [SECRET]


async def test_a_delete_by_id(cli: Cli, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url}
    ended = await cli("outbox", "delete", "--code", OTHER, "--note", "refund", settings=settings)
    assert (ended.code, ended.stdout) == (0, "Row 1 is pending\n")
    rows = query(database_url, "SELECT operation, voucher_code_id::text, note FROM mews.voucher_code_outbox")
    assert rows == [("delete", OTHER, "refund")]


@pytest.mark.long
async def test_what_will_come_to_nothing_is_said_at_once(cli: Cli, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url}
    over = await cli("outbox", "add", "--voucher", VOUCHER, SECRET, "--to", "2020-01-01", settings=settings)
    assert "Note: validity_end_utc has passed: 1 of the queued adds can never be used" in over.stderr
    assert "Note: no daemon is at work on this database" in over.stderr
    unknown = await cli("outbox", "delete", "--code", OTHER, settings=settings)
    assert "Note: the mirror shows no code for 1 of the queued deletes" in unknown.stderr
    assert (over.code, unknown.code) == (0, 0)
    assert SECRET not in over.stderr

    query(database_url, "INSERT INTO sync.connections (name, state, heartbeat_at) VALUES ('default', 'ok', now())")
    heard = await cli("outbox", "delete", "--code", VOUCHER, settings=settings)
    assert "no daemon" not in heard.stderr


async def test_the_operator_gives_a_priority(cli: Cli, database_url: str) -> None:
    call = ("outbox", "add", "--voucher", VOUCHER, SECRET, "--priority", "5")
    assert (await cli(*call, settings={"DATABASE_URL": database_url})).code == 0
    assert query(database_url, "SELECT priority FROM mews.voucher_code_outbox") == [(5,)]


async def test_a_database_that_is_not_migrated(cli: Cli, empty_database_url: str) -> None:
    settings = {"DATABASE_URL": empty_database_url}
    ended = await cli("outbox", "add", "--voucher", VOUCHER, SECRET, settings=settings)
    assert (ended.code, ended.stdout) == (1, "")
    assert ended.stderr.endswith("run `voucher-sync migrate`\n")


@pytest.mark.long
async def test_what_is_taken_back_waits_for_no_daemon(cli: Cli, database_url: str) -> None:
    settings = {"DATABASE_URL": database_url}
    assert (
        "no daemon is at work" in (await cli("outbox", "add", "--voucher", VOUCHER, SECRET, settings=settings)).stderr
    )
    deleted = await cli("outbox", "delete", "--voucher", VOUCHER, SECRET, settings=settings)
    assert deleted.stdout == "Row 2 is cancelled: took back the add in row 1 before it was sent\n"
    assert (deleted.code, deleted.stderr) == (0, "")


@pytest.mark.long
@pytest.mark.parametrize(("status", "command"), [("failed", "retry"), ("held", "release")])
async def test_what_goes_on_after_all_waits_for_a_daemon_too(
    cli: Cli, database_url: str, status: str, command: str
) -> None:
    settings = {"DATABASE_URL": database_url}
    row_id = str(add_row(database_url, SECRET, status))
    moved = await cli("outbox", command, row_id, settings=settings)
    assert (moved.code, "Note: no daemon is at work on this database" in moved.stderr) == (0, True)
    for again in (command, "cancel"):
        ended = await cli("outbox", again, row_id, settings=settings)
        assert "no daemon" not in ended.stderr
