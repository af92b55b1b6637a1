"""What the API says to the tokens of connections: the part of `voucher-sync check` that asks it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncEngine

from sync.cli.check_line import CheckLine
from sync.connection import server_time, store
from sync.connection.guard import next_step
from sync.connection.hotels import why_foreign
from sync.core import api_errors, errors
from sync.core.plurals import plural
from sync.fleet.registry import StoredConnection
from sync.mews import operations
from sync.mews.client import Client
from sync.mews.client_settings import RetryPolicy
from sync.mews.records import Enterprise, Service, Voucher
from sync.mirror.windows import split
from sync.postgres.engine import make_engine, transaction
from sync.service import app
from sync.service.status import remedies
from sync.settings import Settings
from sync.signals import Signal

MAX_CLOCK_DIFFERENCE_S = 60
MAX_SERVICES = 20
MAX_TRIED = 20
"""Connections of which each has its lines; thousands would take minutes, and nobody would read them."""
TRIED_AT_ONCE = 5

ASK_FOR_IT = "ask Mews to permit this operation for the integration, then run this again"


async def check_tokens(
    settings: Settings, connections: Sequence[StoredConnection], migrated_url: str | None
) -> list[CheckLine]:
    """What the API says to each; its calls are written down beforehand where there is a database that takes them.

    Of several, each line begins with the connection's name.
    """
    engine = None if migrated_url is None else make_engine(migrated_url)
    at_once = asyncio.Semaphore(TRIED_AT_ONCE)

    async def lines_of(one: StoredConnection) -> list[CheckLine]:
        async with at_once:
            found = await _check_connection(settings, one, engine)
        return (
            [replace(line, subject=f"{one.name}: {line.subject}") for line in found] if len(connections) > 1 else found
        )

    try:
        tried = await asyncio.gather(*map(lines_of, connections[:MAX_TRIED]))
    finally:
        if engine is not None:
            await engine.dispose()
    found = [line for lines in tried for line in lines]
    if (left := len(connections) - MAX_TRIED) > 0:
        found.append(CheckLine("connections", f"{left:,} more are not tried; --connection NAME tries one of them"))
    return found


async def _check_connection(settings: Settings, one: StoredConnection, engine: AsyncEngine | None) -> list[CheckLine]:
    try:
        given = app.open_stored(settings, one)
    except errors.SettingsError as error:
        return [CheckLine("credentials", str(error), "mend what it names, then run this again")]
    try:
        # Somebody waits for the answer: the daemon's patience would take a quarter of a minute to find nobody there.
        policy = RetryPolicy(max_attempts=2)
        ledger = None if engine is None else app.new_ledger(settings, engine, given)
        client = app.make_client(settings, Signal(), given, ledger, retry_policy=policy)
    except errors.SettingsError as error:
        variable = str(error).partition(":")[0]
        return [CheckLine("surroundings", str(error), f"mend or unset {variable}")]
    findings: list[CheckLine] = []
    stored = one.name if one.access_token is not None else None
    try:
        if engine is not None:
            async with transaction(engine) as tx:
                client.server_clock.expect(await server_time.expected(tx, one.name))
        hotels, credentials = await _check_credentials(client, stored)
        findings.append(credentials)
        if not credentials.is_wrong:
            findings += [finding async for finding in _check_operations(client, hotels, stored)]
        if engine is not None and not any(finding.is_wrong for finding in findings):
            findings += await _check_hotels(one, given.platform_address, engine, hotels)
        clock = client.server_clock
        if clock.last or clock.refused or not any(finding.is_wrong for finding in findings):
            findings.append(_check_clock(client))
    except errors.DatabaseError as error:
        findings.append(database_line(error))
    finally:
        await client.aclose()
    return findings


def database_line(error: errors.VoucherSyncError) -> CheckLine:
    """What is wrong with the database."""
    return CheckLine("database", str(error), remedies.DATABASE.get(type(error).__name__, remedies.SEE_SERVER))


async def _check_credentials(client: Client, stored: str | None) -> tuple[Sequence[Enterprise], CheckLine]:
    """The hotels that the token sees, and what is told of it; `stored`: whose it is of the database's."""
    try:
        hotels = [one async for page in operations.enterprises(client) for one in page.records]
    except api_errors.ApiError as error:
        return [], CheckLine("credentials", str(error), _to_do(error, stored))
    return hotels, CheckLine("credentials", f"accepted; hotels: {len(hotels)} ({remedies.tokens(stored)})")


async def _check_operations(
    client: Client, hotels: Sequence[Enterprise], stored: str | None
) -> AsyncIterator[CheckLine]:
    """What the token may do, call by call, each with what the one before it found."""
    if not hotels:
        to_do = f"ask Mews which hotel the token is for; {remedies.tokens(stored)} takes another"
        yield CheckLine("enterprises/getAll", "the token sees no hotel", to_do)
        return
    ids = [one.id for one in hotels][: operations.MAX_IDS]
    try:
        services = [one async for page in operations.services(client, ids) for one in page.records]
        yield CheckLine("services/getAll", f"permitted; {plural(len(services), 'service')}")
        of_services = [await _vouchers_of(client, service) for service in services[:MAX_SERVICES]]
        vouchers = [one for of_service in of_services for one in of_service or ()]
        yield CheckLine("vouchers/getAll", _what_is_to_be_read(of_services, len(vouchers)))
        if vouchers:
            await _read_codes(client, vouchers[0])
            yield CheckLine("voucherCodes/getAll", "permitted")
    except api_errors.ApiError as error:
        is_refused = isinstance(error, api_errors.Unauthorized | api_errors.Forbidden)
        yield CheckLine(error.operation, str(error), ASK_FOR_IT if is_refused else _to_do(error, stored))


def _to_do(error: api_errors.ApiError, stored: str | None) -> str:
    return remedies.of_answer(type(error).__name__, stored)


async def _check_hotels(
    one: StoredConnection, address: str, engine: AsyncEngine, hotels: Sequence[Enterprise]
) -> list[CheckLine]:
    """Whether the tokens are for the hotels that this connection mirrors; nothing where they are."""
    is_stored = one.access_token is not None
    async with transaction(engine) as tx:
        known = await store.load(tx, one.name)
    foreign = why_foreign(
        address,
        {hotel.id: hotel.name for hotel in hotels},
        known_address=known.platform_address,
        known_enterprises=known.enterprises,
        stored_as=one.name if is_stored else None,
    )
    return [CheckLine("hotels", foreign, next_step(one.name, is_stored=is_stored))] if foreign else []


async def _vouchers_of(client: Client, service: Service) -> list[Voucher] | None:
    """Those of a service; None if it cannot carry any, which is nothing to mend."""
    try:
        pages = [page async for page in operations.vouchers(client, [service.id])]
    except api_errors.InvalidRequest:
        return None
    return [voucher for page in pages for voucher in page.vouchers.records]


def _what_is_to_be_read(of_services: Sequence[list[Voucher] | None], vouchers: int) -> str:
    if of_services and all(of_service is None for of_service in of_services):
        of_all = plural(len(of_services), "service")
        return f"refused for each of {of_all}, as for such that carry no vouchers: of these no code is mirrored"
    return f"permitted; {plural(vouchers, 'voucher')} in the first {MAX_SERVICES} services"


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
