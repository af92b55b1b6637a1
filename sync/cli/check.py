"""`voucher-sync check`: what is wrong, and what to do about it."""

import asyncio
import os
import platform
import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, TypeVarTuple

import click

from sync.alerts.post import Poster
from sync.cli import event_loop
from sync.cli.check_database import check_database
from sync.cli.check_line import NO_START, CheckLine
from sync.cli.check_listening import check_listening
from sync.cli.check_token import check_tokens, database_line
from sync.cli.database import open_database
from sync.cli.shapes import Checked, CheckedLine
from sync.cli.terminal import echo_json
from sync.connection.witness import Witness, state_directory
from sync.core import errors
from sync.core.cron import Cron
from sync.core.descriptors import room_for_calls
from sync.core.plurals import plural
from sync.fleet.registry import StoredConnection, load_present
from sync.outbox.rules import HeldBecause, Status
from sync.postgres.engine import make_engine, transaction
from sync.postgres.snapshot import snapshot
from sync.service.opened import choose
from sync.service.states import touch
from sync.service.status import remedies, words
from sync.service.status.facts import ConnectionStatus, Overview
from sync.service.status.load import count_without_rate, load_overview
from sync.service.status.notes import STUCK_TO_DO
from sync.settings import Settings, load_settings
from sync.web.access import bind_address, integration_address

MAX_NAMED = 3
ANSWERS_WITHIN_S = 60.0
"""A database that was reached and has fallen silent is given up then."""

Ts = TypeVarTuple("Ts")
Found = TypeVar("Found")


def check(*, as_json: bool, name: str | None) -> None:
    """Print what was found, and exit with 1 if something is wrong."""
    check_also(None, as_json=as_json, name=name)


def check_also(
    also: Callable[[Settings], Coroutine[Any, Any, CheckLine | None]] | None, *, as_json: bool, name: str | None
) -> None:
    """The same with one line more, found last, if there is any."""
    passed_over: list[str] = []
    settings = load_settings(passed_over.append)
    findings = [*_check_names(passed_over), *event_loop.run(_check(settings, name))]
    if also and (last := event_loop.run(also(settings))):
        findings.append(last)
    is_well = not any(finding.is_wrong for finding in findings)
    if as_json:
        lines = [CheckedLine(one.subject, not one.is_wrong, one.detail, one.to_do or None) for one in findings]
        echo_json(Checked(is_well, lines))
    for finding in [] if as_json else findings:
        click.echo(f"{'WRONG' if finding.is_wrong else 'ok':<6}{finding.subject}: {finding.detail}")
        if finding.is_wrong:
            click.echo(f"      -> {finding.to_do}")
    sys.exit(0 if is_well else 1)


async def _check(settings: Settings, name: str | None) -> list[CheckLine]:
    host = _check_host(settings.sync_platform_calls_in_flight)
    findings = [host, _check_state(settings), _check_http(settings), *_check_beside(settings)]
    with ExitStack() as open_until_the_end:
        database = await _check_database(settings, open_until_the_end)
        return [*findings, *database.findings, *await _check_connections(settings, database, name)]


@dataclass(slots=True)
class _Database:
    """What was found in it. `migrated_url` and `present` connections: where it can be worked with."""

    findings: list[CheckLine] = field(default_factory=list)
    migrated_url: str | None = None
    present: list[StoredConnection] = field(default_factory=list)


async def _check_database(settings: Settings, open_until_the_end: ExitStack) -> _Database:
    found = _Database()
    try:
        url = open_until_the_end.enter_context(open_database(settings))
        found.findings += await _answered(check_database, url, settings.sync_database_pool)
        is_usable = not any(one.is_wrong for one in found.findings if one.subject == "database")
        if settings.listen_url:
            found.findings.append(await _answered(check_listening, settings.listen_url, url))
        if is_usable:
            overview, without_rate, found.present = await _look_at(url)
            found.migrated_url = url
            audited = _check_audit(overview.connections, settings.sync_audit_cron)
            found.findings += [_check_outbox(overview), audited, *_tell_without_rate(without_rate)]
    except errors.VoucherSyncError as error:
        found.findings.append(database_line(error))
    return found


async def _answered(work: Callable[[*Ts], Found], *args: *Ts) -> Found:
    """What `work` finds, which waits for a database without an end. Raises what it does, and `DatabaseUnavailable`."""
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            return await event_loop.in_thread(work, *args)
    except TimeoutError as error:
        silent = f"the database does not answer: no end within {ANSWERS_WITHIN_S:g} s"
        raise errors.DatabaseUnavailable(silent) from error


async def _check_connections(settings: Settings, database: _Database, name: str | None) -> list[CheckLine]:
    try:
        chosen = choose(settings, database.present, name)
    except errors.SettingsError as error:
        return [_no_tokens(settings, error)]
    except errors.VoucherSyncError as error:
        to_do = "`voucher-sync connections resume` one that is to work, or name one that does with --connection"
        return [CheckLine("connections", str(error), to_do)]
    return await check_tokens(settings, chosen, database.migrated_url)


def _no_tokens(settings: Settings, error: errors.SettingsError) -> CheckLine:
    add = "; a hotel of many has its own with `voucher-sync connections add`" if settings.secret_keys else ""
    return CheckLine("credentials", str(error), f"ask Mews for the tokens, or try `voucher-sync demo`{add}")


def _check_host(calls: int) -> CheckLine:
    detail = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if (room := room_for_calls(calls)) < calls:
        left = f"{room} of {plural(calls, 'call')} in flight"
        detail += f", whose limit of open files (`ulimit -n`) leaves room for {left} (SYNC_PLATFORM_CALLS_IN_FLIGHT)"
    is_known = os.name == "posix"
    return CheckLine("host", detail, "" if is_known else "run it on Linux or macOS, in a container or in WSL")


def _check_state(settings: Settings) -> CheckLine:
    witness = Witness(state_directory(settings.sync_state_dir))
    try:
        witness.require_room()
    except OSError as error:
        where = f" in {witness.directory}" if witness.directory else ""
        why = f"how far the database was worked with cannot be remembered{where}: {error}"
        return CheckLine("state", why, "make room or give the right, or set SYNC_STATE_DIR to a directory that is kept")
    return CheckLine("state", f"{witness.directory} can be written (SYNC_STATE_DIR)")


def _check_http(settings: Settings) -> CheckLine:
    try:
        address = bind_address(settings)
    except errors.SettingsError as error:
        return CheckLine("http", str(error), NO_START)
    if address is None:
        return CheckLine("http", "off, since SYNC_HTTP_BIND is empty")
    who = "whoever knows SYNC_HTTP_TOKEN" if settings.sync_http_token else "this machine"
    where = f"http://{address}/ (SYNC_HTTP_BIND)"
    return CheckLine("http", f"while it runs, `voucher-sync run` answers at {where}, to {who} alone")


def _check_beside(settings: Settings) -> list[CheckLine]:
    """What else `run` begins with, and does not start without: whom it tells, and where it receives webhooks."""
    found = list[CheckLine]()
    for name in ("sync_alert_webhook_url", "sync_ping_url"):
        url = getattr(settings, name)
        try:
            if url is not None:
                Poster(url.get_secret_value())
        except errors.SettingsError as error:
            found.append(CheckLine("alert", f"{name.upper()} cannot be used: {error}", NO_START))
    try:
        if address := integration_address(settings):
            where = f"http://{address}/ (SYNC_INTEGRATION_BIND)"
            found.append(CheckLine("integration", f"while it runs, `voucher-sync run` takes webhooks at {where}"))
    except errors.SettingsError as error:
        found.append(CheckLine("integration", str(error), NO_START))
    return found


def _check_names(passed_over: list[str]) -> list[CheckLine]:
    if not passed_over:
        return [CheckLine("settings", "readable")]
    return [
        CheckLine("settings", one, "mend or unset it: docs/reference/settings.md has them all") for one in passed_over
    ]


async def _look_at(url: str) -> tuple[Overview, int, list[StoredConnection]]:
    """How every connection is doing, how many active vouchers have no rate, and which connections there are.

    Of these those that fail come first, since of many not all are tried. `DatabaseError` also where nothing can be
    written, as on a full disk.
    """
    engine = make_engine(url)
    try:
        async with transaction(engine) as tx:
            await touch(tx)
        async with snapshot(engine) as tx:
            overview, without_rate = await load_overview(tx, ()), await count_without_rate(tx)
            failing = {one.name for one in overview.connections if one.state == "failing"}
            present = sorted(await load_present(tx), key=lambda one: one.name not in failing)
            return overview, without_rate, present
    finally:
        await engine.dispose()


def _tell_without_rate(count: int) -> list[CheckLine]:
    """Of a hotel's own making, and so nothing that is wrong here."""
    without = plural(count, "active voucher has", "active vouchers have")
    return [CheckLine("rates", f"{without} no rate: the codes do nothing")] if count else []


def _check_audit(statuses: list[ConnectionStatus], cron: str) -> CheckLine:
    for one in statuses:
        if one.mirror.audit_braked:
            stored = one.name if one.is_stored else None
            return CheckLine("audit", one.mirror.audit_braked, remedies.of("TooMuchMissing", stored))
    begins = Cron(cron).next_after(datetime.now(UTC))
    following = f"the next begins on {begins:%A}, {begins:%Y-%m-%dT%H:%MZ} (SYNC_AUDIT_CRON)"
    if not any(one.mirror.audited_since for one in statuses):
        left = (
            "not every voucher was compared yet" if any(one.mirror.vouchers for one in statuses) else words.NO_VOUCHER
        )
        return CheckLine("audit", f"{left}; {following}")
    never = [one.name for one in statuses if one.mirror.audited_since is None and one.paused_at is None]
    some = f" (not all of it yet: {', '.join(never[:MAX_NAMED])}{' ...' * (len(never) > MAX_NAMED)})" if never else ""
    drift = sum(one.mirror.audit_drift or 0 for one in statuses)
    return CheckLine("audit", f"drifted when last compared: {drift:,}{some}; {following}")


def _check_outbox(overview: Overview) -> CheckLine:
    statuses, unknown = overview.connections, overview.unassigned
    deletes, before_gap = (
        sum(one.backlog.held.get(because, 0) for one in statuses)
        for because in (HeldBecause.TOO_MANY_DELETES, HeldBecause.BEFORE_A_GAP)
    )
    failed = sum(one.backlog.outbox.get(Status.FAILED, 0) for one in statuses) + unknown.get(Status.FAILED, 0)
    if any(one.gap for one in statuses):
        held_before = plural(before_gap, "change is", "changes are")
        detail = f"the database was restored, copied, or has lost commits; of before that, {held_before} held"
        return CheckLine(
            "outbox", detail, "see what is left with `voucher-sync adopt --show`, then run `voucher-sync adopt`"
        )
    of_none = unknown.get(Status.HELD, 0)
    if deletes or before_gap or of_none:
        held = [f"{plural(deletes, 'delete is', 'deletes are')} held, since too many came at once"] if deletes else []
        held += [f"{plural(before_gap, 'change')} from before a gap held still"] if before_gap else []
        held += [f"{plural(of_none, 'change')} held of vouchers that no connection knows"] if of_none else []
        to_do = "see `voucher-sync outbox list --status held`; then `outbox release` or `outbox cancel` them"
        return CheckLine("outbox", "; ".join(held), to_do)
    if stuck := sum(one.backlog.stuck for one in statuses):
        return CheckLine("outbox", f"{words.changes(stuck)} stuck until somebody mends what keeps them", STUCK_TO_DO)
    return CheckLine("outbox", f"nothing is held; failed: {failed:,} (`voucher-sync outbox list --status failed`)")
