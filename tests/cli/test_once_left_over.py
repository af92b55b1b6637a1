"""What `voucher-sync once` leaves behind of the outbox: it is told with 1 where it was due, and only there."""

import json
from uuid import uuid4

import pytest
from sqlalchemy import text

from sync.demo.simulator import Operation, Status
from sync.outbox.claims import as_daemon
from sync.postgres.engine import transaction
from tests.support.mirror import ACCESS_TOKEN, Mirror

from .conftest import Cli
from .test_once import QUICK, errors_of, queue

RESTS = "Changes that something on the outbox's table refuses to have changed: 1"


async def state(mirror: Mirror) -> list[tuple[str, int]]:
    rows = await mirror.rows("SELECT status, attempts FROM mews.voucher_code_outbox ORDER BY id")
    return [(row["status"], row["attempts"]) for row in rows]


async def queue_deletes(mirror: Mirror) -> None:
    """Of a value, and of an id, that the API does not show."""
    await mirror.execute(
        "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value, voucher_code_id) "
        "VALUES ('delete', :voucher, 'UNKNOWN', NULL), ('delete', NULL, NULL, :code)",
        voucher=next(iter(mirror.world.vouchers)),
        code=uuid4(),
    )


@pytest.mark.long
async def test_of_an_outbox_in_which_nothing_waits_nothing_is_told_however_the_pull_fails(
    cli: Cli, mirror: Mirror
) -> None:
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment | QUICK)).code == 0
        mirror.simulator.faults.script(Operation.GET_CODES, Status(410), times=99)
        ended = await cli("once", settings=mirror.environment | QUICK)
    assert (ended.code, "voucher-sync once" in ended.stderr) == (1, False), ended.stderr
    assert all("(410)" in one for one in errors_of(ended.stderr))


async def test_what_was_pushed_is_told_where_nothing_could_be_pulled(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment | QUICK)).code == 0
        await queue(mirror, "NEW")
        mirror.simulator.faults.script(Operation.GET_SERVICES, Status(410), times=99)
        ended = await cli("once", settings=mirror.environment | QUICK)
        assert await state(mirror) == [("done", 1)]
    assert (ended.code, ended.stdout) == (1, "Nothing was pulled. Pushed: 1 change done, 0 failed.\n")


@pytest.mark.long
async def test_a_delete_of_what_the_mirror_does_not_show_is_decided_in_the_same_cycle(cli: Cli, mirror: Mirror) -> None:
    shown_at_once = {"SYNC_SETTLE_AFTER_S": "0.01"}  # sooner than any process begins
    async with mirror.opened():
        await queue_deletes(mirror)
        ended = await cli("once", settings=mirror.environment | QUICK | shown_at_once)
        assert await state(mirror) == [("failed", 0), ("failed", 0)]
    assert (ended.code, errors_of(ended.stderr), "0 changes done, 2 failed" in ended.stdout) == (0, [], True)


@pytest.mark.long
async def test_a_delete_that_cannot_be_decided_yet_is_told_each_time(cli: Cli, mirror: Mirror) -> None:
    shown_late = {"SYNC_SETTLE_AFTER_S": "3600", "SYNC_LEASE_S": "1"}
    pulls = 0

    async def refuse_the_second_pull(operation: Operation, _body: object) -> None:
        nonlocal pulls
        pulls += operation is Operation.GET_CODES
        if operation is Operation.GET_CODES and pulls % 2 == 0:
            mirror.simulator.faults.script(Operation.GET_CODES, Status(401))

    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
        await queue_deletes(mirror)
        mirror.simulator.on_request = refuse_the_second_pull
        ended = [await cli("once", settings=mirror.environment | shown_late) for _ in range(2)]
        assert await state(mirror) == [("pending", 0), ("pending", 0)]
    assert [one.code for one in ended] == [1, 1]
    assert all("the API does not show every voucher or code yet that is named" in one.stderr for one in ended)
    assert not any("not caught up" in one.stdout for one in ended)


@pytest.mark.long
async def test_a_change_that_somebody_holds_before_it_has_a_connection_is_told(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await queue(mirror, "NEW")
        async with transaction(mirror.connection.engine) as tx:
            await tx.execute(text("SELECT FROM mews.voucher_code_outbox FOR UPDATE"))
            locked = await cli("once", settings=mirror.environment | QUICK)
        assert await state(mirror) == [("pending", 0)]
        free = await cli("once", settings=mirror.environment | QUICK)
        assert await state(mirror) == [("done", 1)]
    assert (locked.code, free.code) == (1, 0)
    assert "1 change is due, and not sent: another transaction holds its row" in locked.stderr


@pytest.mark.long
async def test_what_the_table_refuses_is_told_each_time_and_no_failure(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await mirror.execute(
            "ALTER TABLE mews.voucher_code_outbox ADD CONSTRAINT theirs CHECK (status IN ('pending', 'cancelled'))"
        )
        await queue(mirror, "NEW")
        async with as_daemon(mirror.connection.engine) as tx:
            await tx.execute(text("UPDATE mews.voucher_code_outbox SET attempts = 1"))  # as given back before
        ended = [await cli("once", settings=mirror.environment | QUICK) for _ in range(2)]
    assert [(one.code, errors_of(one.stderr), RESTS in one.stdout) for one in ended] == [(0, [], True)] * 2


@pytest.mark.long
async def test_what_waits_behind_a_held_change_is_no_failure(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await cli("once", settings=mirror.environment)
        await mirror.execute(
            "INSERT INTO mews.voucher_code_outbox (operation, voucher_id, value) "
            "VALUES ('delete', :voucher, 'A'), ('add', :voucher, 'A')",
            voucher=next(iter(mirror.world.vouchers)),
        )
        async with as_daemon(mirror.connection.engine) as tx:
            await tx.execute(
                text(
                    "UPDATE mews.voucher_code_outbox SET attempts = 1, status = "
                    "CASE operation WHEN 'delete' THEN 'held' ELSE 'pending' END"
                )
            )
        before = len(mirror.simulator.requests)
        ended = await cli("once", settings=mirror.environment)
    assert (ended.code, errors_of(ended.stderr), len(mirror.simulator.requests) - before <= 5) == (0, [], True)


@pytest.mark.long
async def test_what_the_api_refuses_of_a_push_is_told_by_status_until_it_is_made(cli: Cli, mirror: Mirror) -> None:
    """As the daemon does: who runs single cycles by a timer reads `status`, and not what each of them ended with."""

    async def fault() -> str | None:
        told = json.loads((await cli("status", "--json", settings=mirror.environment | QUICK)).stdout)
        error: str | None = told[0]["error"]
        return error

    async with mirror.opened():
        settings = mirror.environment | QUICK
        assert (await cli("once", settings=settings)).code == 0
        await queue(mirror, "NEW")
        mirror.world.permit(ACCESS_TOKEN, set(Operation) - {Operation.ADD_CODES})
        assert (await cli("once", settings=settings)).code == 1
        refused = await fault()
        mirror.world.permit(ACCESS_TOKEN, set(Operation))
        async with as_daemon(mirror.connection.engine) as tx:
            await tx.execute(text("UPDATE mews.voucher_code_outbox SET next_attempt_at = now()"))
        assert (await cli("once", settings=settings)).code == 0
        assert ("(401)" in (refused or ""), await fault()) == (True, None)
