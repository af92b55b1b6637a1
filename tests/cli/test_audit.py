"""`voucher-sync audit`: what it says, and its exit code."""

import asyncio
import json
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sync.demo.simulator import Operation
from sync.service import app
from tests.support import process
from tests.support.mirror import ACCESS_TOKEN, Mirror
from tests.support.two_tokens import KEY, second

from .conftest import Cli


@pytest.mark.long
async def test_without_drift_it_says_so(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await mirror.once()
        ended = await cli("audit", settings=mirror.environment)
    assert (ended.code, ended.stdout) == (0, "3 codes of 1 voucher compared, no drift.\n")


@pytest.mark.long
async def test_drift_is_told_and_mended(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await mirror.once()
        await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE value = 'A'")
        told = await cli("audit", settings=mirror.environment)
        as_json = await cli("audit", "--json", settings=mirror.environment)
        mended = await cli("audit", "--repair", settings=mirror.environment)
        assert (await mirror.compare()).is_equal
        runs = await mirror.rows("SELECT counts, error FROM sync.runs WHERE kind = 'audit' ORDER BY id")
    assert (told.code, told.stdout.splitlines()[-1]) == (
        1,
        "3 codes of 1 voucher compared: 1 drifted, nothing repaired.",
    )
    assert [(run["counts"]["drift"], run["counts"]["repaired"], run["error"]) for run in runs] == [
        (1, 0, None),
        (1, 0, None),
        (1, 1, None),
    ]
    assert "value 1" in told.stdout
    ((voucher_id, voucher),) = json.loads(as_json.stdout)["vouchers"].items()
    assert ("Summer" in told.stdout, voucher_id in told.stdout) == (True, False)
    assert (as_json.code, voucher["differing"], voucher["columns"]) == (1, 1, {"value": 1})
    assert (mended.code, mended.stdout.splitlines()[-1]) == (
        0,
        "3 codes of 1 voucher compared: 1 drifted, 1 repaired.",
    )


@pytest.mark.long
async def test_a_loss_waits_until_it_is_accepted(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await cli("once", settings=mirror.environment)
        for code in [*mirror.world.codes.truth]:
            mirror.world.hard_delete_code(code)
        braked = await cli("audit", "--repair", settings=mirror.environment)
        told = await cli("status", settings=mirror.environment)
        checked = await cli("check", settings=mirror.environment)
        accepted = await cli("audit", "--repair", "--accept-loss", settings=mirror.environment)
    assert (braked.code, accepted.code) == (1, 0)
    assert "BRAKED" in told.stdout
    assert "no longer lists 3 of the 3 codes" in checked.stdout
    assert checked.code == 1
    assert "no longer lists 3 of the 3 codes" in braked.stderr
    assert "--accept-loss" in braked.stderr
    assert accepted.stdout.endswith("3 drifted, 3 repaired.\n")


@pytest.mark.long
async def test_a_loss_is_accepted_only_with_repair(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        ended = await cli("audit", "--accept-loss", settings=mirror.environment)
    assert (ended.code, "--accept-loss belongs to --repair" in ended.stderr) == (2, True)


@pytest.mark.long
async def test_an_audit_that_fails_is_told_and_noted(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await mirror.once()
        mirror.world.revoke(ACCESS_TOKEN)
        ended = await cli("audit", settings=mirror.environment)
        (run,) = await mirror.rows("SELECT error FROM sync.runs WHERE kind = 'audit'")
    assert (ended.code, "not authorised (401)" in ended.stderr, "not authorised (401)" in run["error"]) == (
        1,
        True,
        True,
    )


@pytest.mark.long
@pytest.mark.parametrize("is_daemon_running", [False, True])
async def test_it_uses_the_whole_budget_only_while_no_daemon_runs(
    cli: Cli, mirror: Mirror, *, is_daemon_running: bool
) -> None:
    mirror.add_codes(mirror.add_voucher(), [f"MORE-{number}" for number in range(2500)])
    # Of 8 places an audit beside a daemon gets 2, and it has 3 pages to read: alone, it would not live to wait.
    budget = {"SYNC_RATE_LIMIT_REQUESTS": "8", "SYNC_RATE_LIMIT_WINDOW_S": "2" if is_daemon_running else "600"}
    asked_at_s: list[float] = []

    async def on_request(operation: Operation, _body: Mapping[str, Any]) -> None:
        if operation is Operation.GET_CODES:
            asked_at_s.append(time.monotonic())

    async with mirror.opened():
        await mirror.once()
        if is_daemon_running:
            await mirror.beat(app.make_jobs(mirror.connection, mirror.settings()))
        mirror.simulator.on_request = on_request
        # What this process has spent of a budget without end would leave nothing of one of 8.
        await mirror.execute("DELETE FROM sync.reservations")
        ended = await cli("audit", settings=mirror.environment | budget)
    assert (ended.code, len(asked_at_s)) == (0, 3)
    assert not is_daemon_running or asked_at_s[2] - asked_at_s[0] > 2


@pytest.mark.long
async def test_before_anything_is_mirrored_it_does_not_say_that_nothing_has_drifted(
    cli: Cli, database_url: str
) -> None:
    mirror = Mirror(database_url)
    async with mirror.opened():
        too_soon = await cli("audit", settings=mirror.environment)
        assert (await cli("once", settings=mirror.environment)).code == 0
        without_vouchers = await cli("audit", settings=mirror.environment)
    assert (too_soon.code, too_soon.stdout) == (1, "")
    assert "nothing is mirrored yet, so there is nothing to compare" in too_soon.stderr
    assert (without_vouchers.code, without_vouchers.stdout) == (0, "0 codes of 0 vouchers compared, no drift.\n")


@pytest.mark.long
async def test_a_voucher_that_it_does_not_compare_is_told(cli: Cli, mirror: Mirror) -> None:
    hidden = mirror.add_voucher("Hidden")
    async with mirror.opened():
        await mirror.once()
        await mirror.execute(
            "INSERT INTO sync.skipped (connection, kind, id, reason) "
            "VALUES ('default', 'voucher', :id, 'Invalid VoucherIds')",
            id=hidden.id,
        )
        told = await cli("audit", settings=mirror.environment)
        as_json = json.loads((await cli("audit", "--json", settings=mirror.environment)).stdout)
    left_out = "3 codes of 1 voucher compared, no drift; 1 voucher left out, which the API does not show at present.\n"
    assert (told.code, told.stdout, as_json["left_out"]) == (0, left_out, 1)


@pytest.mark.long
async def test_json_does_not_call_well_what_has_a_connection_that_was_not_compared(cli: Cli, mirror: Mirror) -> None:
    other = mirror.world.add_enterprise("Hotel B")
    async with mirror.opened(), second(mirror, "other", [other.id]):
        settings = mirror.environment | {"SYNC_SECRET_KEY": KEY}
        await cli("once", settings=settings)
        mirror.world.revoke("the-token-of-other")
        await mirror.execute("UPDATE sync.connections SET token_fingerprint = NULL WHERE name = 'other'")
        ended = await cli("audit", "--json", settings=settings)
    told = json.loads(ended.stdout)
    assert (ended.code, told["ok"], len(told["errors"])) == (1, False, 1)
    assert "connection other: " in told["errors"][0]


@pytest.mark.long
async def test_one_whose_process_was_killed_is_gone_on_with_at_once_and_one_that_stands_still_is_not(
    cli: Cli, mirror: Mirror, tmp_path: Path
) -> None:
    is_asked, is_answered = asyncio.Event(), asyncio.Event()

    async def on_request(operation: Operation, body: Any) -> None:
        if operation is Operation.GET_CODES and "UpdatedUtc" not in body:
            is_asked.set()
            await is_answered.wait()

    async with mirror.opened():
        await mirror.once()
        await mirror.execute("UPDATE mews.voucher_codes SET value = 'WRONG' WHERE value = 'A'")
        mirror.simulator.on_request = on_request
        first = await process.start("audit", settings=mirror.environment, directory=tmp_path)
        await is_asked.wait()
        first.send_signal(signal.SIGSTOP)
        is_answered.set()
        refused = await cli("audit", "--repair", settings=mirror.environment)
        await mirror.execute(
            "UPDATE sync.audits SET owner_process = replace(owner_process, ' pid ', '-elsewhere pid ')"
        )
        elsewhere = await cli("audit", "--repair", settings=mirror.environment)
        await mirror.execute(
            "UPDATE sync.audits SET owner_process = replace(owner_process, '-elsewhere pid ', ' pid ')"
        )
        first.kill()
        await first.communicate()
        ended = await cli("audit", "--repair", settings=mirror.environment)
        audits = await mirror.rows("SELECT finished_at IS NULL AS is_open FROM sync.audits")
    assert (refused.code, "an audit of this connection is under way" in refused.stderr) == (1, True)
    assert f"process {first.pid} of this machine carries it out, and was last heard of" in refused.stderr
    assert f"process {first.pid} of another machine or container carries it out" in elsewhere.stderr
    assert re.search(
        r"taken over from its own machine at once, and from another one in (2\d\d|300) s", elsewhere.stderr
    )
    assert (ended.code, ended.stdout.splitlines()[-1]) == (0, "3 codes of 1 voucher compared: 1 drifted, 1 repaired.")
    assert audits == [{"is_open": False}]
