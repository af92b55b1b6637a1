"""`voucher-sync check`: what is wrong, and what to do about it."""

import asyncio
import os
import platform
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.check_database import check_database
from sync.cli.check_line import CheckLine
from sync.cli.database import open_database
from sync.cli.shapes import Checked, CheckedLine
from sync.cli.terminal import echo_json
from sync.connection import server_time, store
from sync.connection.guard import NEXT_STEP
from sync.connection.hotels import why_foreign
from sync.core import errors
from sync.core.cron import Cron
from sync.mews import operations
from sync.mews.client import Client, RetryPolicy
from sync.mews.records import Service, Voucher
from sync.mirror.windows import split
from sync.outbox.rules import HeldBecause, Status
from sync.postgres.engine import make_engine, transaction
from sync.service import app
from sync.service.heartbeat import touch
from sync.service.status import remedies
from sync.service.status.facts import ConnectionStatus
from sync.service.status.load import count_without_rate, load_status
from sync.settings import Settings, load_settings
from sync.web.access import bind_address

MAX_CLOCK_DIFFERENCE_S = 60
MAX_SERVICES = 20

ASK_FOR_IT = "ask Mews to permit this operation for the integration, then run this again"


def check(*, as_json: bool) -> None:
    """Print what was found, and exit with 1 if something is wrong."""
    check_also(None, as_json=as_json)


def check_also(also: Callable[[Settings], Coroutine[Any, Any, CheckLine]] | None, *, as_json: bool) -> None:
    """The same with one line more, found last."""
    passed_over: list[str] = []
    settings = load_settings(passed_over.append)
    findings = [*_check_names(passed_over), *asyncio.run(_check(settings))]
    if also:
        findings.append(asyncio.run(also(settings)))
    is_well = not any(finding.is_wrong for finding in findings)
    if as_json:
        lines = [CheckedLine(one.subject, not one.is_wrong, one.detail, one.to_do or None) for one in findings]
        echo_json(Checked(is_well, lines))
    for finding in [] if as_json else findings:
        click.echo(f"{'WRONG' if finding.is_wrong else 'ok':<6}{finding.subject}: {finding.detail}")
        if finding.is_wrong:
            click.echo(f"      -> {finding.to_do}")
    sys.exit(0 if is_well else 1)


async def _check(settings: Settings) -> list[CheckLine]:
    findings, migrated_url, expected_utc = [_check_host(), _check_http(settings)], None, None
    with ExitStack() as open_until_the_end:
        try:
            url = open_until_the_end.enter_context(open_database(settings))
            of_database = await asyncio.to_thread(check_database, url, settings.sync_database_pool)
            findings += of_database
            if not any(one.is_wrong for one in of_database if one.subject == "database"):
                migrated_url, (statuses, without_rate, expected_utc) = url, await _look_at(url)
                findings += [_check_outbox(statuses), _check_audit(statuses, settings.sync_audit_cron)]
                findings += _tell_without_rate(without_rate)
        except errors.VoucherSyncError as error:
            findings.append(_check_of(error))
        try:
            app.credentials(settings)
        except errors.SettingsError as error:
            to_do = "ask Mews for the tokens, or try `voucher-sync demo`"
            return [*findings, CheckLine("credentials", str(error), to_do)]
        return [*findings, *await _check_token(settings, migrated_url, expected_utc)]


def _check_of(error: errors.VoucherSyncError) -> CheckLine:
    return CheckLine("database", str(error), remedies.DATABASE.get(type(error).__name__, remedies.SEE_SERVER))


async def _check_token(settings: Settings, migrated_url: str | None, expected_utc: datetime | None) -> list[CheckLine]:
    """What the API says; its calls are written down beforehand where there is a database that takes them."""
    engine = None if migrated_url is None else make_engine(migrated_url)
    try:
        # Somebody waits for the answer: the daemon's patience would take a quarter of a minute to find nobody there.
        client = app.make_client(settings, asyncio.Event(), RetryPolicy(max_attempts=2), engine)
    except errors.SettingsError as error:
        variable = str(error).partition(":")[0]
        return [CheckLine("surroundings", str(error), f"mend or unset {variable}")]
    if expected_utc:
        client.server_clock.expect(expected_utc)
    findings: list[CheckLine] = []
    try:
        findings += [finding async for finding in _check_api(client)]
        if engine is not None and not any(finding.is_wrong for finding in findings):
            findings += await _check_hotels(settings, engine, client)
        clock = client.server_clock
        if clock.last or clock.refused or not any(finding.is_wrong for finding in findings):
            findings.append(_check_clock(client))
    except errors.DatabaseError as error:
        findings.append(_check_of(error))
    finally:
        await client.aclose()
        if engine is not None:
            await engine.dispose()
    return findings


def _check_host() -> CheckLine:
    detail = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    is_known = os.name == "posix"
    return CheckLine("host", detail, "" if is_known else "run it on Linux or macOS, in a container or in WSL")


def _check_http(settings: Settings) -> CheckLine:
    try:
        address = bind_address(settings)
    except errors.SettingsError as error:
        return CheckLine("http", str(error), "until then `voucher-sync run` does not start")
    if address is None:
        return CheckLine("http", "off, since SYNC_HTTP_BIND is empty")
    who = "whoever knows SYNC_HTTP_TOKEN" if settings.sync_http_token else "this machine"
    return CheckLine("http", f"`voucher-sync run` answers at http://{address}/, to {who} alone")


def _check_names(passed_over: list[str]) -> list[CheckLine]:
    if not passed_over:
        return [CheckLine("settings", "readable")]
    return [
        CheckLine("settings", one, "mend or unset it: docs/reference/settings.md has them all") for one in passed_over
    ]


async def _look_at(url: str) -> tuple[list[ConnectionStatus], int, datetime]:
    """How every connection is doing, how many active vouchers have no rate, and the API's time as far as it is known.

    `DatabaseError` also where nothing can be written, as on a full disk.
    """
    engine = make_engine(url)
    try:
        async with transaction(engine) as tx:
            await touch(tx)
            known_utc = await server_time.expected(tx, app.CONNECTION_NAME)
            return await load_status(tx), await count_without_rate(tx), known_utc
    finally:
        await engine.dispose()


def _tell_without_rate(count: int) -> list[CheckLine]:
    """Of a hotel's own making, and so nothing that is wrong here."""
    return [CheckLine("rates", f"{count:,} active vouchers have no rate: their codes do nothing")] if count else []


def _check_audit(statuses: list[ConnectionStatus], cron: str) -> CheckLine:
    for one in statuses:
        if one.audit_braked:
            to_do = "find out why; if that is right, run `voucher-sync audit --repair --accept-loss`"
            return CheckLine("audit", one.audit_braked, to_do)
    begins = Cron(cron).next_after(datetime.now(UTC))
    following = f"the next begins on {begins:%A}, {begins:%Y-%m-%dT%H:%MZ} (SYNC_AUDIT_CRON)"
    if not any(one.audited_since for one in statuses):
        return CheckLine("audit", f"never compared; {following}")
    return CheckLine(
        "audit", f"drifted when last compared: {sum(one.audit_drift or 0 for one in statuses):,}; {following}"
    )


def _check_outbox(statuses: list[ConnectionStatus]) -> CheckLine:
    deletes, before_gap = (
        sum(one.held.get(because, 0) for one in statuses)
        for because in (HeldBecause.TOO_MANY_DELETES, HeldBecause.BEFORE_A_GAP)
    )
    failed = sum(one.outbox.get(Status.FAILED, 0) for one in statuses)
    if any(one.gap for one in statuses):
        detail = (
            f"the database was restored, copied, or has lost commits; of before that, {before_gap:,} changes are held"
        )
        return CheckLine(
            "outbox", detail, "see what is left with `voucher-sync adopt --show`, then run `voucher-sync adopt`"
        )
    if deletes or before_gap:
        held = [f"{deletes:,} deletes are held, since they were too many at once"] if deletes else []
        held += [f"{before_gap:,} changes from before a gap are held still"] if before_gap else []
        to_do = "see `voucher-sync outbox list --status held`; then `outbox release` or `outbox cancel` them"
        return CheckLine("outbox", "; ".join(held), to_do)
    return CheckLine("outbox", f"nothing is held; failed: {failed:,}")


async def _check_api(client: Client) -> AsyncIterator[CheckLine]:
    """What the token may do, call by call, each with what the one before it found."""
    try:
        enterprises = [one async for page in operations.enterprises(client) for one in page.records]
        yield CheckLine("credentials", f"accepted; hotels: {len(enterprises)}")
    except errors.ApiError as error:
        yield CheckLine("credentials", str(error), _to_do(error))
        return
    if not enterprises:
        yield CheckLine("enterprises/getAll", "the token sees no hotel", "ask Mews which hotel the token is for")
        return
    ids = [one.id for one in enterprises][: operations.MAX_IDS]
    try:
        services = [one async for page in operations.services(client, ids) for one in page.records]
        yield CheckLine("services/getAll", f"permitted; {len(services)} services")
        vouchers = [one for service in services[:MAX_SERVICES] async for one in _vouchers_of(client, service)]
        yield CheckLine("vouchers/getAll", f"permitted; {len(vouchers)} vouchers in the first {MAX_SERVICES} services")
        if vouchers:
            await _read_codes(client, vouchers[0])
            yield CheckLine("voucherCodes/getAll", "permitted")
    except errors.ApiError as error:
        is_refused = isinstance(error, errors.Unauthorized | errors.Forbidden)
        yield CheckLine(error.operation, str(error), ASK_FOR_IT if is_refused else _to_do(error))


def _to_do(error: errors.ApiError) -> str:
    return remedies.API.get(type(error).__name__, remedies.TRY_LATER)


async def _check_hotels(settings: Settings, engine: AsyncEngine, client: Client) -> list[CheckLine]:
    """Whether the tokens are for the hotels that this database mirrors; nothing where they are."""
    async with transaction(engine) as tx:
        known = await store.load(tx, app.CONNECTION_NAME)
    foreign = why_foreign(
        settings.mews_platform_address,
        {one.id: one.name async for page in operations.enterprises(client) for one in page.records},
        known_address=known.platform_address,
        known_enterprises=known.enterprises,
    )
    return [CheckLine("hotels", foreign, NEXT_STEP)] if foreign else []


async def _vouchers_of(client: Client, service: Service) -> AsyncIterator[Voucher]:
    try:
        async for page in operations.vouchers(client, [service.id]):
            for voucher in page.vouchers.records:
                yield voucher
    except errors.InvalidRequest:
        return  # this service cannot carry vouchers, which is nothing to mend


async def _read_codes(client: Client, voucher: Voucher) -> None:
    now = client.server_clock.now() or datetime.now(UTC)  # which of the two does not matter to what is permitted
    (window,) = split(now - timedelta(minutes=1), now)
    await operations.voucher_codes(client, [voucher.id], window, page_size=1, cursor=None)


def _check_clock(client: Client) -> CheckLine:
    if refused := client.server_clock.refused:
        return CheckLine("clock", refused, operations.CLOCK_TO_DO)
    server = client.server_clock.now()
    if server is None:
        return CheckLine("clock", "the API did not tell its time", "see that a proxy does not remove the Date header")
    ahead_s = (datetime.now(UTC) - server).total_seconds()
    if abs(ahead_s) > MAX_CLOCK_DIFFERENCE_S:
        detail = f"this machine is {abs(ahead_s):,.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the API"
        return CheckLine(
            "clock", detail, "nothing is lost by it, but set the machine's clock (NTP): logs show its time"
        )
    return CheckLine("clock", f"within {MAX_CLOCK_DIFFERENCE_S} s of the API's")
