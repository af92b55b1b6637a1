"""`voucher-sync once`: a whole cycle, what it says, and its exit code."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import text

from sync.demo.simulator import Close, Operation, Status
from sync.outbox.claims import as_daemon
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.proxy import Proxy

from .conftest import Cli

COMPLETION = b"WITH free AS"
QUICK = {"SYNC_SETTLE_AFTER_S": "0.3", "SYNC_LEASE_S": "2"}


def errors_of(stderr: str) -> list[str]:
    """What is said to people on stderr, beside the logs."""
    return [line for line in stderr.splitlines() if not line.startswith("{")]


async def test_it_mirrors_everything_and_then_finds_nothing_to_write(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        first = await cli("once", settings=mirror.environment)
        assert (first.code, errors_of(first.stderr)) == (0, [])
        assert first.stdout.startswith("1 voucher, ")
        assert first.stdout.endswith("3 codes read, 3 rows written.\n")
        assert (await mirror.compare()).is_equal
        again = await cli("once", settings=mirror.environment)
        assert (again.code, errors_of(again.stderr)) == (0, [])
        assert again.stdout.endswith(" 0 rows written.\n")
    assert mirror.simulator.violations == []


@pytest.mark.long
async def test_a_cycle_that_finds_nothing_new_notes_how_far_it_came_for_the_next_one(
    cli: Cli, database_url: str
) -> None:
    mirror = Mirror(database_url)
    mirror.add_codes(mirror.add_voucher(), [f"CODE-{number}" for number in range(801)], days_old=1e-4)
    cycles = []
    async with mirror.opened():
        for _ in range(3):
            pulled = json.loads((await cli("once", "--json", settings=mirror.environment)).stdout)["pulled"]
            (through,) = await mirror.rows("SELECT complete_through FROM mews.coverage")
            cycles.append((pulled["codes"], pulled["written"], through["complete_through"]))
            mirror.clock.advance(timedelta(hours=1))
        (codes, written, instants) = zip(*cycles, strict=True)
        assert (codes[-1], written) == (0, (801, 0, 0))
        assert all(later - earlier > timedelta(minutes=59) for earlier, later in pairwise(instants))


@pytest.mark.long
async def test_a_change_that_the_outbox_s_table_refuses_is_told(cli: Cli, mirror: Mirror) -> None:
    voucher = next(iter(mirror.world.vouchers))
    async with mirror.opened():
        await mirror.execute(
            "ALTER TABLE mews.voucher_code_outbox ADD CONSTRAINT theirs CHECK (value <> 'BAD' OR status = 'pending')"
        )
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "VALUES ('add', :voucher, 'GOOD'), ('add', :voucher, 'BAD')",
            voucher=voucher,
        )
        ended = await cli("once", settings=mirror.environment)
    says = "Pushed: 1 change done, 0 failed. Changes that something on the outbox's table refuses to have changed: 1"
    assert (ended.code, says in ended.stdout, "BAD" in ended.stdout + ended.stderr) == (0, True, False)


@pytest.mark.long
async def test_the_summary_as_json(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        first = json.loads((await cli("once", "--json", settings=mirror.environment)).stdout)
        again = json.loads((await cli("once", "--json", settings=mirror.environment)).stdout)
    assert (first["ok"], first["errors"]) == (True, [])
    assert (first["discovered"]["vouchers"], first["pulled"]["codes"], first["pulled"]["written"]) == (1, 3, 3)
    assert (again["ok"], again["discovered"]["written"], again["pulled"]["written"]) == (True, 0, 0)


@pytest.mark.long
async def test_a_hotel_without_a_voucher_is_caught_up(cli: Cli, database_url: str) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened():
        ended = await cli("once", settings=mirror.environment)
    assert ended.code == 0, ended
    assert ended.stdout.startswith("0 vouchers, ")


@pytest.mark.long
async def test_a_refused_token(cli: Cli, mirror: Mirror) -> None:
    mirror.world.revoke(ACCESS_TOKEN)
    async with mirror.opened():
        text, as_json = await asyncio.gather(
            cli("once", settings=mirror.environment), cli("once", "--json", settings=mirror.environment)
        )
    assert (text.code, text.stdout) == (1, "Nothing was pulled.\n")
    (error,) = errors_of(text.stderr)
    assert error.startswith("Error: enterprises/getAll: not authorised (401)")
    summary = json.loads(as_json.stdout)
    assert (as_json.code, summary["ok"], summary["discovered"], summary["pulled"]) == (1, False, None, None)
    assert "not authorised (401)" in summary["errors"][0]


@pytest.mark.long
async def test_codes_that_may_not_be_read(cli: Cli, mirror: Mirror) -> None:
    mirror.world.permit(ACCESS_TOKEN, set(Operation) - {Operation.GET_CODES})
    async with mirror.opened():
        ended = await cli("once", settings=mirror.environment)
    assert ended.code == 1
    assert ended.stdout.endswith(", 0 codes read, 0 rows written; not caught up.\n")
    (error,) = errors_of(ended.stderr)
    assert error.startswith("Error: voucherCodes/getAll: not authorised (401)")


@pytest.mark.long
async def test_a_database_that_is_not_there(cli: Cli, mirror: Mirror, unreachable_url: str) -> None:
    async with mirror.opened():
        ended = await cli("once", settings=mirror.environment | {"DATABASE_URL": unreachable_url})
    assert ended.code == 1
    assert [line.partition(" connection")[0] for line in errors_of(ended.stderr)] == [
        "Error: the database does not answer:"
    ]


@pytest.mark.long
async def test_a_database_that_is_not_migrated(cli: Cli, empty_database_url: str) -> None:
    mirror = Mirror(empty_database_url)
    async with mirror.opened():
        ended = await cli("once", settings=mirror.environment)
    assert ended.code == 1
    errors = errors_of(ended.stderr)
    assert errors
    assert all(error.startswith("Error: the database is not migrated") for error in errors)
    assert all(error.endswith("run `voucher-sync migrate`") for error in errors)


async def queue(mirror: Mirror, value: str) -> None:
    """Queues an add for the hotel's voucher."""
    voucher_id = next(iter(mirror.world.vouchers))
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) VALUES ('add', :voucher, :value)",
        voucher=voucher_id,
        value=value,
    )


@pytest.mark.long
async def test_what_a_dead_process_had_sent_is_looked_up_before_it_ends(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await queue(mirror, "NEW")
        async with as_daemon(mirror.connection.engine) as tx:
            await tx.execute(
                text(
                    "UPDATE mews.voucher_code_outbox SET status = 'sending', attempt_id = gen_random_uuid(), "
                    "connection = 'default', attempts = 1, sent_at = now(), first_sent_utc = now()"
                )
            )
        ended = await cli("once", settings=mirror.environment | QUICK)
        (row,) = await mirror.rows("SELECT status, attempts FROM mews.voucher_code_outbox")
    assert (ended.code, errors_of(ended.stderr)) == (0, [])
    assert (row["status"], row["attempts"]) == ("done", 2)
    assert "1 change done" in ended.stdout


@pytest.mark.long
async def test_a_lost_answer_that_it_looks_up_itself_is_no_failure(cli: Cli, mirror: Mirror) -> None:
    mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    async with mirror.opened():
        await queue(mirror, "NEW")
        ended = await cli("once", settings=mirror.environment | QUICK)
        (row,) = await mirror.rows("SELECT status FROM mews.voucher_code_outbox")
    assert (row["status"], ended.code, errors_of(ended.stderr)) == ("done", 0, [])


@pytest.mark.long
@pytest.mark.direct
@pytest.mark.parametrize("is_answered", [False, True])
async def test_a_line_to_the_database_that_broke_is_no_failure_where_all_is_done_in_the_end(
    cli: Cli, mirror: Mirror, is_answered: bool
) -> None:
    async with mirror.opened(), Proxy(mirror.database_url).served() as proxy:
        await queue(mirror, "NEW")
        proxy.cut_at_commit(COMPLETION, is_answered=is_answered)
        ended = await cli("once", settings=mirror.environment | QUICK | {"DATABASE_URL": proxy.url})
        (row,) = await mirror.rows("SELECT status FROM mews.voucher_code_outbox")
    assert proxy.was_cut.is_set()
    assert (row["status"], ended.code, errors_of(ended.stderr)) == ("done", 0, [])


@pytest.mark.long
async def test_what_it_gives_back_to_be_sent_later_is_a_failure(cli: Cli, mirror: Mirror) -> None:
    mirror.simulator.faults.script(Operation.ADD_CODES, Status(429), times=100)
    async with mirror.opened():
        await queue(mirror, "NEW")
        ended = await cli("once", settings=mirror.environment | QUICK)
        (row,) = await mirror.rows("SELECT status FROM mews.voucher_code_outbox")
    assert (row["status"], ended.code, len(errors_of(ended.stderr)) > 0) == ("pending", 1, True)


@pytest.mark.long
async def test_it_does_not_call_done_what_is_still_unknown(cli: Cli, mirror: Mirror) -> None:
    async def keep_unknown(operation: Operation, _body: object) -> None:
        if operation is Operation.ADD_CODES:
            mirror.simulator.faults.script(Operation.GET_CODES, Status(500), times=100)

    mirror.simulator.faults.script(Operation.ADD_CODES, Close(), times=100)
    mirror.simulator.on_request = keep_unknown
    async with mirror.opened():
        await queue(mirror, "NEW")
        ended = await cli("once", "--json", settings=mirror.environment | QUICK)
    summary = json.loads(ended.stdout)
    assert (ended.code, summary["ok"]) == (1, False)
    assert any("of 1 change it is not known yet whether they were made" in error for error in summary["errors"])


@pytest.mark.long
async def test_a_users_index_keeps_out_one_code_and_costs_no_further_calls(cli: Cli, mirror: Mirror) -> None:
    mirror.add_codes(mirror.add_voucher("Winter"), ["A"])
    async with mirror.opened():
        await mirror.execute("CREATE UNIQUE INDEX theirs ON mews.voucher_codes (value)")
        await queue(mirror, "E")
        ended = await cli("once", settings=mirror.environment | QUICK)
        rows = await mirror.rows("SELECT status FROM mews.voucher_code_outbox")
    assert (ended.code, errors_of(ended.stderr), [row["status"] for row in rows]) == (0, [], ["done"])
    assert "3 rows written. New records that cannot be stored: 1; see sync.rejected_records." in ended.stdout
    assert len(mirror.simulator.requests) <= 7


@pytest.mark.long
@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "answer lost"])
async def test_it_ends_within_a_few_calls_where_the_database_takes_no_code_at_all(
    cli: Cli, mirror: Mirror, is_lost: bool
) -> None:
    if is_lost:
        mirror.simulator.faults.script(Operation.ADD_CODES, Close(processed=True))
    async with mirror.opened():
        await mirror.execute("ALTER TABLE mews.voucher_codes ADD COLUMN theirs text NOT NULL")
        await queue(mirror, "NEW")
        ended = await cli("once", settings=mirror.environment | QUICK)
        counted = len(mirror.simulator.requests)
        rows = await mirror.rows("SELECT status FROM mews.voucher_code_outbox")
    assert (ended.code, [row["status"] for row in rows]) == (1, ["uncertain"])
    errors = " ".join(errors_of(ended.stderr))
    assert "refuses every INSERT of mews.voucher_codes (23502): NotNullViolation, column theirs" in errors
    assert "it is not known yet whether they were made" in errors
    assert (counted <= 12, len(mirror.requests(Operation.ADD_CODES))) == (True, 1)


@pytest.mark.long
@pytest.mark.parametrize("api", [{}, {"lenient_delete": True}, {"hide_writes_for_s": 0.5}])
async def test_what_it_deletes_stands_as_the_api_says_in_the_end(
    cli: Cli, database_url: str, api: dict[str, Any]
) -> None:
    mirror = Mirror(database_url)
    mirror.simulator.behaviour = replace(mirror.simulator.behaviour, **api)
    voucher = mirror.add_voucher()
    codes = mirror.add_codes(voucher, [f"CODE-{number}" for number in range(20)])
    by_nothing = mirror.world.add_codes(voucher.id, ["BLIND"], updated_utc=None)
    async with mirror.opened():
        for command in (("once",), ("audit", "--repair")):
            await cli(*command, settings=mirror.environment)
        for one in [*codes, *by_nothing]:
            await mirror.execute(
                "INSERT INTO mews.voucher_code_outbox (operation, voucher_code_id) VALUES ('delete', :id)", id=one.id
            )
        done = await cli("once", settings=mirror.environment | {"SYNC_SETTLE_AFTER_S": "5"})
        assert (done.code, errors_of(done.stderr)) == (0, [])
        assert "21 changes done" in done.stdout
        assert (await mirror.compare()).is_equal
        assert await mirror.rows("SELECT FROM mews.voucher_codes WHERE delete_noted_at IS NOT NULL") == []
