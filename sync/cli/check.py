"""`voucher-sync check`: what is wrong, and what to do about it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import click

from sync import app
from sync.cli.database import open_database
from sync.db import migrations
from sync.db.engine import describe_address
from sync.mews import operations
from sync.mews.client import Client
from sync.model import errors
from sync.model.records import Service, Voucher
from sync.model.windows import split
from sync.settings import Settings, load_settings

MAX_CLOCK_DIFFERENCE_S = 60
MAX_IDS = 1000
MAX_SERVICES = 20

TO_DO: dict[type[errors.ApiError], str] = {
    errors.Unauthorized: "check MEWS_CLIENT_TOKEN and MEWS_ACCESS_TOKEN, and that the integration is enabled in Mews",
    errors.WrongAddress: "check MEWS_PLATFORM_ADDRESS: production is https://api.mews.com",
    errors.Unreadable: "check MEWS_PLATFORM_ADDRESS, and whether a proxy answers in the API's place",
    errors.NotConnected: "check MEWS_PLATFORM_ADDRESS, the network, DNS and any proxy or firewall on the way",
    errors.InvalidRequest: "check that the tokens are complete, and MEWS_CLIENT is not empty",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, and, if that is wrong, what to do."""

    subject: str
    detail: str
    to_do: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether somebody must do something."""
        return bool(self.to_do)


@click.command()
def check() -> None:
    """Look at settings, database, credentials, permissions and clock: one line each. Exits 1 if something is wrong."""
    findings = asyncio.run(_check(load_settings()))
    for finding in findings:
        click.echo(f"{'WRONG' if finding.is_wrong else 'ok':<6}{finding.subject}: {finding.detail}")
        if finding.is_wrong:
            click.echo(f"      -> {finding.to_do}")
    sys.exit(1 if any(finding.is_wrong for finding in findings) else 0)


async def _check(settings: Settings) -> list[Finding]:
    findings = [Finding("settings", "readable")]
    try:
        with open_database(settings) as url:
            findings.append(await asyncio.to_thread(_check_database, url))
    except errors.VoucherSyncError as error:
        findings.append(Finding("database", str(error), "see that the server runs, and that DATABASE_URL is right"))
    try:
        app.credentials(settings)
    except errors.SettingsError as error:
        return [*findings, Finding("credentials", str(error), "ask Mews for the tokens, or try `voucher-sync demo`")]
    client = app.make_client(settings, asyncio.Event())
    try:
        findings += [finding async for finding in _check_api(client)]
        findings.append(_check_clock(client))
    finally:
        await client.aclose()
    return findings


def _check_database(url: str) -> Finding:
    address = describe_address(url)
    at, needed = migrations.revisions(url)
    if at != needed:
        detail = f"{address} is at revision {at or 'none'}, and this version needs {needed}"
        return Finding("database", detail, "run `voucher-sync migrate`")
    return Finding("database", f"{address} is migrated (revision {at})")


async def _check_api(client: Client) -> AsyncIterator[Finding]:
    """What the token may do, call by call, each with what the one before it found."""
    try:
        enterprises = [one async for page in operations.enterprises(client) for one in page.records]
        yield Finding("credentials", f"accepted; {len(enterprises)} enterprises")
    except errors.ApiError as error:
        yield Finding(
            "credentials", str(error), TO_DO.get(type(error), "try again later; if it stays, tell the vendor")
        )
        return
    ids = [one.id for one in enterprises][:MAX_IDS]
    try:
        services = [one async for page in operations.services(client, ids) for one in page.records]
        yield Finding("services/getAll", f"permitted; {len(services)} services")
        vouchers = [one for service in services[:MAX_SERVICES] async for one in _vouchers_of(client, service)]
        yield Finding("vouchers/getAll", f"permitted; {len(vouchers)} vouchers in the first {MAX_SERVICES} services")
        if vouchers:
            await _read_codes(client, vouchers[0])
            yield Finding("voucherCodes/getAll", "permitted")
    except errors.ApiError as error:
        to_do = "ask Mews to permit this operation for the integration, then run this again"
        yield Finding(error.operation, str(error), to_do)


async def _vouchers_of(client: Client, service: Service) -> AsyncIterator[Voucher]:
    try:
        async for page in operations.vouchers(client, [service.id]):
            for voucher in page.vouchers.records:
                yield voucher
    except errors.InvalidRequest:
        return  # this service cannot carry vouchers, which is nothing to mend


async def _read_codes(client: Client, voucher: Voucher) -> None:
    now = await operations.server_now(client)
    (window,) = split(now - timedelta(minutes=1), now)
    await operations.voucher_codes(client, [voucher.id], window, page_size=1, cursor=None)


def _check_clock(client: Client) -> Finding:
    server = client.server_clock.now()
    if server is None:
        return Finding("clock", "the API did not tell its time", "see that a proxy does not remove the Date header")
    ahead_s = (datetime.now(UTC) - server).total_seconds()
    if abs(ahead_s) > MAX_CLOCK_DIFFERENCE_S:
        detail = f"this machine is {abs(ahead_s):,.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the API"
        return Finding("clock", detail, "nothing is lost by it, but set the machine's clock (NTP): logs show its time")
    return Finding("clock", f"within {MAX_CLOCK_DIFFERENCE_S} s of the API's")
