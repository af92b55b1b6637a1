"""The one place where the parts are put together; the daemon, `once` and the tests all start from here."""

import os
import random
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from sync.audit.context import AuditSettings
from sync.connection.budget import BudgetLedger
from sync.connection.connection import Connection, Identity
from sync.connection.hotels import fingerprint
from sync.connection.incarnation import PATIENCE_S, Incarnation
from sync.connection.os_process import find_pid_space
from sync.connection.tenure import Trust
from sync.connection.witness import Witness, state_directory
from sync.core.cron import Cron
from sync.core.descriptors import room_for_calls
from sync.core.errors import SettingsError
from sync.fleet.registry import CONNECTION_NAME, StoredConnection
from sync.fleet.replicas import Replica
from sync.fleet.tokens import TokenBox, TokenOf
from sync.mews.client import Client
from sync.mews.client_settings import ClientSettings, Credentials, RetryPolicy
from sync.mews.platform_cap import PlatformLimits
from sync.mews.transport import HttpPool, HttpPools
from sync.mirror.pull import PullSettings
from sync.outbox.delete_guard import DeleteGuardRule
from sync.outbox.send import PushSettings
from sync.postgres.engine import make_engine
from sync.postgres.schema_version import known_revisions, require_schema
from sync.service.jobs import Jobs, JobSettings
from sync.service.ledgers import Ledgers, make_ledger
from sync.service.looks import Looks, make_looks
from sync.service.outbox_worker import OutboxSettings
from sync.service.progress import late_after_s
from sync.settings import Settings
from sync.signals import Signal

_rng = random.Random()  # noqa: S311 - spreads retries, keeps no secret; one for all, since each takes 2.5 kB


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all connections that a process works for share."""

    settings: Settings
    engine: AsyncEngine
    stop: Signal
    incarnation: Incarnation
    process: UUID
    retry_policy: RetryPolicy
    pools: HttpPools
    ledgers: Ledgers = field(default_factory=Ledgers)


@asynccontextmanager
async def open_workplace(
    settings: Settings,
    database_url: str,
    stop: Signal,
    retry_policy: RetryPolicy = RetryPolicy(),
    *,
    sessions: int | None = None,
    waits_for_others: bool = True,
) -> AsyncIterator[Workplace]:
    """The database and what is known of it; closed with its pool of so many `sessions` at the end.

    `waits_for_others`: they may vouch for a while for a server that this process does not know.
    """
    pool = sessions or settings.sync_database_pool
    engine = make_engine(database_url, pool, keeps_history=settings.sync_history == "on", is_unattended=True)
    require_schema(engine)
    incarnation = Incarnation(
        Witness(state_directory(settings.sync_state_dir)),
        patience_s=max(PATIENCE_S, settings.sync_lease_s) if waits_for_others else 0.0,
        shows_after_s=settings.sync_lease_s + settings.sync_settle_after_s,
    )
    in_flight, per_s = settings.sync_platform_calls_in_flight, settings.sync_platform_calls_per_s
    limits = PlatformLimits(in_flight, per_s, in_process=room_for_calls(in_flight))
    pools = HttpPools(settings.sync_max_response_mb * 2**20, limits)
    try:
        yield Workplace(settings, engine, stop, incarnation, uuid4(), retry_policy, pools)
    finally:
        await pools.aclose()
        await engine.dispose()


def make_connection(
    place: Workplace,
    name: str,
    given: Credentials,
    *,
    accept_enterprises: bool = False,
    trust: Trust | None = None,
) -> Connection:
    """A connection of these tokens; whoever makes it closes its client. Nothing is asked or read yet.

    `accept_enterprises`: its tokens may be for another address or other hotels than those mirrored so far. `trust`: in
    a process that beats, which spends no call without it.
    """
    token = fingerprint(given.platform_address, given.access_token)
    is_stored = name != CONNECTION_NAME
    identity = Identity(given.platform_address, token, is_accepted=accept_enterprises, is_stored=is_stored)
    ledger = place.ledgers.of(token, place.settings, place.engine, place.process, trust)
    pool = place.pools.of(given.platform_address)
    client = make_client(place.settings, place.stop, given, ledger, retry_policy=place.retry_policy, pool=pool)
    return Connection(name, client, place.engine, place.stop, identity, place.incarnation, process=place.process)


def open_stored(settings: Settings, stored: StoredConnection) -> Credentials:
    """The platform address and the tokens of a connection, as the database or the environment has them.

    `SettingsError`, which names the connection, where one is missing or cannot be read.
    """
    if stored.access_token is None or stored.platform_address is None:
        return credentials(settings)
    box, address = TokenBox(settings.secret_keys), sys.intern(stored.platform_address)  # the same of thousands
    access_token = box.decrypt(stored.access_token, TokenOf(stored.name, address, "access"))
    return Credentials(address, client_token_of(settings, stored), access_token, settings.mews_client)


def client_token_of(settings: Settings, stored: StoredConnection) -> str:
    """The client token of a stored connection: its own, or the environment's. `SettingsError` without one."""
    if stored.client_token is not None:
        of = TokenOf(stored.name, stored.platform_address or "", "client")
        return TokenBox(settings.secret_keys).decrypt(stored.client_token, of)
    if settings.mews_client_token is not None:
        return settings.mews_client_token.get_secret_value()
    raise SettingsError(
        f"connection {stored.name} has no client token of its own, and MEWS_CLIENT_TOKEN is not set: set it, or "
        f"MEWS_CLIENT_TOKEN_FILE, to the token of your integration"
    )


def make_client(
    settings: Settings,
    stop: Signal,
    given: Credentials,
    ledger: BudgetLedger | None,
    *,
    retry_policy: RetryPolicy = RetryPolicy(),
    pool: HttpPool | None = None,
) -> Client:
    """A client of these tokens, whose calls a `ledger` writes down; without one its budget is its own."""
    how = ClientSettings(
        budget_requests=settings.sync_rate_limit_requests,
        budget_window_s=settings.sync_rate_limit_window_s,
        read_timeout_s=settings.sync_request_timeout_s,
        max_response_bytes=settings.sync_max_response_mb * 2**20,
        retry_policy=retry_policy,
        clock_tolerance=timedelta(seconds=settings.sync_clock_tolerance_s),
    )
    return Client(given, how, clock=time.monotonic, rng=_rng, stop=stop, ledger=ledger, pool=pool)


def new_ledger(settings: Settings, engine: AsyncEngine, given: Credentials) -> BudgetLedger:
    """What writes down the calls of a client that is no connection's, in the name of nobody."""
    return make_ledger(fingerprint(given.platform_address, given.access_token), settings, engine)


OR_KEY = "; where the database keeps the tokens of hotels, set SYNC_SECRET_KEY, or SYNC_SECRET_KEY_FILE, in its place"


def credentials(settings: Settings) -> Credentials:
    """The address and the tokens of the environment, or `SettingsError`."""
    client_token, access_token = settings.mews_client_token, settings.mews_access_token
    if client_token is None or access_token is None:
        missing = "MEWS_CLIENT_TOKEN" if client_token is None else "MEWS_ACCESS_TOKEN"
        or_key = OR_KEY if missing == "MEWS_ACCESS_TOKEN" and not settings.secret_keys else ""
        raise SettingsError(f"{missing} is not set: set it, or {missing}_FILE, to the token that Mews issued{or_key}")
    tokens = client_token.get_secret_value(), access_token.get_secret_value()
    return Credentials(settings.mews_platform_address, *tokens, settings.mews_client)


def job_settings(settings: Settings) -> JobSettings:
    """How the jobs do what they do."""
    push = PushSettings(
        lease=timedelta(seconds=settings.sync_lease_s),
        request_timeout_s=settings.sync_request_timeout_s,
        read_after_write_delay=timedelta(seconds=settings.sync_settle_after_s),
        delete_guards=delete_guard_rules(settings),
    )
    outbox = OutboxSettings(push, keep=settings.outbox_keep)
    pull = PullSettings(settings.overlap, settings.sync_backfill_from)
    late_s = late_after_s(settings.sync_pull_interval_s)
    return JobSettings(pull, outbox, audit_settings(settings), Cron(settings.sync_audit_cron), late_s)


def make_jobs(
    connection: Connection, settings: Settings, looks: Looks | None = None, shared: JobSettings | None = None
) -> Jobs:
    """The jobs of a connection; `looks` and `shared` are those of all of a process that has several."""
    return Jobs(connection, shared or job_settings(settings), looks or make_looks(connection.engine))


def told_settings(settings: Settings) -> dict[str, Any]:
    """Settings by the names of their variables; of a secret only whether it is set."""
    told = {
        name.upper(): "set" if isinstance(value, SecretStr) else value
        for name, value in settings.model_dump(mode="python").items()
    }
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in told.items()}


def describe_replica(process: UUID, settings: Settings) -> Replica:
    """This process, as it tells of itself."""
    host, revision = socket.gethostname(), known_revisions()[-1]
    told, space = told_settings(settings), find_pid_space()
    return Replica(process, host, os.getpid(), version("voucher-sync"), revision, told, space)


def delete_guard_rules(settings: Settings) -> list[DeleteGuardRule]:
    """What is too many deletes: at once, and bit by bit."""
    limits = [
        (settings.sync_delete_brake_share, settings.sync_delete_brake_window_s),
        (settings.sync_delete_brake_long_share, settings.sync_delete_brake_long_window_s),
    ]
    at_least = settings.sync_delete_brake_min
    return [DeleteGuardRule(share, at_least, timedelta(seconds=window_s)) for share, window_s in limits]


def audit_settings(settings: Settings) -> AuditSettings:
    """How an audit judges, and that it repairs."""
    return AuditSettings(settings.overlap, settings.sync_audit_max_loss, repair=True)
