"""`voucher-sync check`: one line for each thing, and beneath a wrong one what to do."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync.demo.simulator import Operation, Status
from tests.mews.helpers import served
from tests.support.mirror import ACCESS_TOKEN, CLIENT_TOKEN, Mirror
from tests.support.receiver import receiving

from .conftest import Cli

ALL = set(Operation)
HTML = {"Content-Type": "text/html"}


@dataclass(frozen=True, slots=True)
class CheckLine:
    """A line of the output, with the advice beneath it."""

    verdict: str
    detail: str
    to_do: str


async def findings(cli: Cli, settings: Mapping[str, str]) -> dict[str, CheckLine]:
    """What is found, by its subject. The exit code must tell whether something is wrong."""
    ended = await cli("check", settings=settings)
    assert ended.stderr == ""
    found: dict[str, CheckLine] = {}
    for line in ended.stdout.splitlines():
        if line.startswith("      -> "):
            subject, finding = found.popitem()
            found[subject] = CheckLine(finding.verdict, finding.detail, line.removeprefix("      -> "))
            continue
        verdict, _, rest = line.partition(" ")
        subject, _, detail = rest.strip().partition(": ")
        found[subject] = CheckLine(verdict, detail, "")
    assert {one.verdict for one in found.values()} <= {"ok", "WRONG"}
    assert all(bool(one.to_do) is (one.verdict == "WRONG") for one in found.values())
    assert ended.code == (1 if wrong(found) else 0)
    return found


def wrong(found: Mapping[str, CheckLine]) -> list[str]:
    """The subjects of what is wrong."""
    return [subject for subject, one in found.items() if one.verdict == "WRONG"]


@pytest.mark.long
async def test_its_calls_are_written_down_for_whoever_works_beside_it(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        await findings(cli, mirror.environment)
        (left,) = await mirror.rows("SELECT reserved, cardinality(ages_ms) AS calls FROM sync.reservations")
    assert left == {"reserved": 0, "calls": len(mirror.simulator.requests)}


@pytest.mark.long
async def test_all_is_well(cli: Cli, mirror: Mirror) -> None:
    async with mirror.served():
        found = await findings(cli, mirror.environment | {"SYNC_HTTP_BIND": "127.0.0.1:8321"})
    assert wrong(found) == []
    assert list(found) == [
        "settings",
        "host",
        "state",
        "http",
        "server",
        "privileges",
        "sessions",
        "database",
        "tables",
        "roles",
        "outbox",
        "audit",
        "credentials",
        "services/getAll",
        "vouchers/getAll",
        "voucherCodes/getAll",
        "clock",
    ]
    assert "hotels: 1" in found["credentials"].detail
    assert found["http"].detail.startswith("while it runs, `voucher-sync run` answers at "), "none runs here"
    assert mirror.simulator.violations == []


@pytest.mark.long
async def test_vouchers_whose_codes_do_nothing_are_counted_and_are_no_fault(cli: Cli, mirror: Mirror) -> None:
    service, world = next(iter(mirror.world.services)), mirror.world
    world.add_voucher(service, "With a rate", rate_ids=[world.new_id()])
    mirror.world.deactivate_voucher(mirror.add_voucher("Without any, and without use").id)
    async with mirror.opened():
        await cli("once", settings=mirror.environment)
        found = await findings(cli, mirror.environment)
    assert (wrong(found), found["rates"].detail) == ([], "1 active voucher has no rate: the codes do nothing")


@pytest.mark.long
async def test_a_trial_is_sent_to_the_webhook_and_its_address_is_not_shown(cli: Cli, mirror: Mirror) -> None:
    async with mirror.served(), receiving() as receiver:
        settings = mirror.environment | {"SYNC_ALERT_WEBHOOK_URL": receiver.url, "SYNC_ALERT_WEBHOOK_SECRET": "hush"}
        taken = await cli("check", "--alert", settings=settings)
        receiver.statuses = [404]
        refused = await cli("check", "--alert", settings=settings)
        at = {"SYNC_ALERT_WEBHOOK_URL": receiver.url.replace("http:", "https:")}
        untrusted = await cli("check", "--alert", settings=settings | at)
    assert (refused.stderr, untrusted.stderr) == ("", "")
    assert "WRONG alert: 127.0.0.1 cannot be reached ([SSL: " in untrusted.stdout
    assert (taken.code, taken.stdout.splitlines()[-1]) == (
        0,
        "ok    alert: 127.0.0.1 (SYNC_ALERT_WEBHOOK_URL) has taken a trial: see that it arrived",
    )
    assert refused.code == 1
    assert "WRONG alert: 127.0.0.1 answered with HTTP 404" in refused.stdout
    assert [call.json["event"] for call in receiver.calls] == ["trial", "trial"]
    assert receiver.calls[0].headers["webhook-signature"].startswith("v1,")
    assert "secret-path" not in taken.stdout + taken.stderr + refused.stdout + refused.stderr


@pytest.mark.long
async def test_without_a_webhook_there_is_nothing_to_try(cli: Cli, mirror: Mirror) -> None:
    async with mirror.served():
        ended = await cli("check", "--alert", settings=mirror.environment)
    assert ended.code == 1
    assert "-> set SYNC_ALERT_WEBHOOK_URL" in ended.stdout


@pytest.mark.long
async def test_before_the_first_audit_it_says_so_and_when_that_begins(cli: Cli, mirror: Mirror) -> None:
    async with mirror.served():
        found = await findings(cli, mirror.environment | {"SYNC_AUDIT_CRON": "30 4 * * 0"})
    detail = re.fullmatch(
        r"no voucher is known yet; the next begins on Sunday, (\S+T04:30)Z \(SYNC_AUDIT_CRON\)",
        found["audit"].detail,
    )
    assert detail
    assert timedelta(0) < datetime.fromisoformat(detail[1] + "Z") - datetime.now(UTC) <= timedelta(days=7)


@pytest.mark.long
async def test_who_was_never_compared_is_named_beside_who_was(cli: Cli, mirror: Mirror) -> None:
    async with mirror.opened():
        assert (await cli("once", settings=mirror.environment)).code == 0
        assert (await cli("audit", settings=mirror.environment)).code == 0
        compared = (await findings(cli, mirror.environment))["audit"].detail
        await mirror.execute("INSERT INTO sync.connections (name, state, origin) VALUES ('lake', 'ok', 'environment')")
        others = (await findings(cli, mirror.environment))["audit"].detail
    assert compared.startswith("drifted when last compared: 0; the next begins on ")
    assert others.startswith("drifted when last compared: 0 (not all of it yet: lake); the next begins on ")


@pytest.mark.long
async def test_what_the_environment_brings_along_is_named(cli: Cli, unreachable_url: str) -> None:
    tokens = {"MEWS_CLIENT_TOKEN": CLIENT_TOKEN, "MEWS_ACCESS_TOKEN": ACCESS_TOKEN}
    strange = {"SYNC_LEASE": "60", "ALL_PROXY": "socks5://127.0.0.1:9", "PGOPTIONS": "-c x=y"}
    found = await findings(cli, {"DATABASE_URL": unreachable_url, **tokens, **strange})
    assert wrong(found) == ["settings", "database", "surroundings"]
    assert "is SYNC_LEASE_S meant?" in found["settings"].detail
    assert "counts too: PGOPTIONS" in found["database"].detail
    assert found["surroundings"].to_do == "mend or unset ALL_PROXY"


async def test_what_is_wrong_here_is_all_told_at_once(cli: Cli, unreachable_url: str) -> None:
    found = await findings(cli, {"DATABASE_URL": unreachable_url})
    assert wrong(found) == ["database", "credentials"]
    assert "Connection refused" in found["database"].detail
    assert "DATABASE_URL" in found["database"].to_do
    assert "MEWS_CLIENT_TOKEN is not set" in found["credentials"].detail
    assert "voucher-sync demo" in found["credentials"].to_do


@pytest.mark.long
async def test_a_state_directory_that_cannot_be_written(cli: Cli, mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with mirror.opened():
        found = await findings(cli, mirror.environment | {"SYNC_STATE_DIR": str(tmp_path / "file" / "state")})
    assert wrong(found) == ["state"]
    assert f"cannot be remembered in {tmp_path / 'file' / 'state'}: " in found["state"].detail
    assert "SYNC_STATE_DIR" in found["state"].to_do


async def test_a_database_that_is_not_migrated(cli: Cli, empty_database_url: str) -> None:
    mirror = Mirror(empty_database_url)
    async with mirror.served():
        found = await findings(cli, mirror.environment)
    assert wrong(found) == ["database"]
    assert "at revision none" in found["database"].detail
    assert found["database"].to_do == "run `voucher-sync migrate`"


@pytest.mark.long
async def test_a_token_that_is_refused(cli: Cli, mirror: Mirror) -> None:
    mirror.world.revoke(ACCESS_TOKEN)
    async with mirror.served():
        found = await findings(cli, mirror.environment)
    (request,) = mirror.simulator.requests
    assert wrong(found) == ["credentials"]
    assert "(401)" in found["credentials"].detail
    assert request.request_id in found["credentials"].detail
    assert "MEWS_ACCESS_TOKEN" in found["credentials"].to_do


@pytest.mark.long
async def test_a_firewall_that_answers_in_the_place_of_the_api(cli: Cli, mirror: Mirror) -> None:
    mirror.simulator.faults.script(Operation.GET_ENTERPRISES, Status(403, html=True))
    async with mirror.served():
        found = await findings(cli, mirror.environment)
    assert wrong(found) == ["credentials"]
    assert "what proxy or firewall on the way answers in the API's place" in found["credentials"].to_do


@pytest.mark.sampled
@pytest.mark.parametrize("operation", [Operation.GET_SERVICES, Operation.GET_VOUCHERS, Operation.GET_CODES])
async def test_an_operation_that_is_not_permitted(cli: Cli, mirror: Mirror, operation: Operation) -> None:
    mirror.world.permit(ACCESS_TOKEN, ALL - {operation})
    async with mirror.served():
        found = await findings(cli, mirror.environment)
    assert wrong(found) == [operation]
    assert "(401)" in found[operation].detail
    assert "ask Mews to permit this operation" in found[operation].to_do


@pytest.mark.long
async def test_a_clock_that_is_far_off(cli: Cli, mirror: Mirror) -> None:
    mirror.clock.advance(timedelta(hours=3))
    async with mirror.served():
        found = await findings(cli, mirror.environment)
    assert wrong(found) == ["clock"]
    assert "s behind the API" in found["clock"].detail
    assert "NTP" in found["clock"].to_do


@pytest.mark.long
@pytest.mark.parametrize("ahead", [timedelta(days=25_000), timedelta(days=-20_000)])
async def test_a_clock_of_the_apis_that_is_not_believed(cli: Cli, mirror: Mirror, ahead: timedelta) -> None:
    mirror.simulator.behaviour.date_ahead_s = ahead.total_seconds()
    async with mirror.served():
        found = await findings(cli, mirror.environment | {"SYNC_CLOCK_TOLERANCE_S": "86400"})
    assert wrong(found) == ["clock"]
    shown = [f"{instant:%Y-%m-%d}" for instant in (datetime.now(UTC) + ahead, datetime.now(UTC))]
    assert re.match(f"the API's clock shows {shown[0]} .*, this machine's {shown[1]} ", found["clock"].detail)
    assert "SYNC_CLOCK_TOLERANCE_S" in found["clock"].to_do


@pytest.mark.long
async def test_an_address_that_is_not_the_apis(cli: Cli, mirror: Mirror) -> None:
    async with served(404, HTML, b"<h1>Not found</h1>") as address:
        found = await findings(cli, mirror.environment | {"MEWS_PLATFORM_ADDRESS": address})
    assert "credentials" in wrong(found)
    assert "this is not the API's address (404)" in found["credentials"].detail
    assert "MEWS_PLATFORM_ADDRESS" in found["credentials"].to_do


@pytest.mark.long
async def test_a_page_in_the_apis_place_or_nobody_at_all(cli: Cli, mirror: Mirror, closed_port: int) -> None:
    async with served(200, HTML, b"<h1>Welcome to our Wi-Fi</h1>") as address:
        # Both are tried for a while, so they may as well wait together.
        page, nobody = await asyncio.gather(
            findings(cli, mirror.environment | {"MEWS_PLATFORM_ADDRESS": address}),
            findings(cli, mirror.environment | {"MEWS_PLATFORM_ADDRESS": f"http://127.0.0.1:{closed_port}"}),
        )
    assert "credentials" in wrong(page)
    assert "the answer cannot be read" in page["credentials"].detail
    assert "credentials" in wrong(nobody)
    assert "the API cannot be reached" in nobody["credentials"].detail
