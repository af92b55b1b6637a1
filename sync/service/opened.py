"""The connections that a command works for: the environment's, and those that the database keeps."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from shlex import quote

from sync.connection.connection import Connection
from sync.core.errors import DatabaseUnavailable, NotMigrated, SettingsError, Unsuitable, VoucherSyncError
from sync.fleet.registry import CONNECTION_NAME, OF_ENVIRONMENT, StoredConnection, load_present, revive_environment
from sync.mews.client_settings import RetryPolicy
from sync.postgres.engine import in_transaction
from sync.service import app
from sync.service.app import Workplace
from sync.settings import Settings
from sync.signals import Signal

NONE_AT_WORK = (
    "there is no connection to work for: all of them are paused; see `voucher-sync connections list`, and `resume` one"
)


@dataclass(frozen=True, slots=True)
class Opened:
    """The connections that are open, by name; `unopened`: why others could not be opened, by theirs."""

    connections: list[Connection]
    unopened: dict[str, SettingsError]

    @property
    def is_single(self) -> bool:
        """Whether it is the one connection that there is, which then needs no name where errors are told."""
        return len(self.connections) + len(self.unopened) == 1


def require_tokens(settings: Settings) -> None:
    """`SettingsError` where there can be no token: neither in the environment nor, without a key, in the database."""
    if not settings.secret_keys:
        app.credentials(settings)


@asynccontextmanager
async def open_connections(
    settings: Settings,
    database_url: str,
    stop: Signal,
    retry_policy: RetryPolicy = RetryPolicy(),
    *,
    name: str | None = None,
    accept_enterprises: bool = False,
    waits_for_others: bool = True,
) -> AsyncIterator[Opened]:
    """All connections that are at work, or the one of this name; closed with their pools at the end.

    `SettingsError` where none has tokens. `VoucherSyncError` where there is none of the name, or all are paused.
    `accept_enterprises` as for `app.make_connection`, `waits_for_others` as for `app.open_workplace`.
    """
    workplace = app.open_workplace(settings, database_url, stop, retry_policy, waits_for_others=waits_for_others)
    async with workplace as place, AsyncExitStack() as closing:
        opened = Opened([], {})
        for one in choose(settings, await _present(place), name):
            try:
                given = app.open_stored(settings, one)
                connection = app.make_connection(place, one.name, given, accept_enterprises=accept_enterprises)
            except SettingsError as error:
                opened.unopened[one.name] = error
            else:
                closing.push_async_callback(connection.client.aclose)
                opened.connections.append(connection)
        if not opened.connections:
            raise next(iter(opened.unopened.values()))
        yield opened


async def _present(place: Workplace) -> list[StoredConnection]:
    """What the database has; of one that is away nothing, where the environment has tokens."""
    try:
        if place.settings.mews_access_token is not None:
            await in_transaction(place.engine, revive_environment)
        return await in_transaction(place.engine, load_present)
    except (DatabaseUnavailable, NotMigrated, Unsuitable):
        app.credentials(place.settings)
        return []  # each job tells of the database in its own words


def choose(settings: Settings, present: list[StoredConnection], name: str | None = None) -> list[StoredConnection]:
    """Which of the connections a process of these settings works for; raises what `open_connections` does."""
    has_tokens = settings.mews_access_token is not None
    stored = [one for one in present if one.name != CONNECTION_NAME]
    of_environment = next((one for one in present if one.name == CONNECTION_NAME), OF_ENVIRONMENT)
    all_of_them = [*([of_environment] if has_tokens else []), *stored]
    if name is not None:
        return [_named(all_of_them, name)]
    at_work = [one for one in all_of_them if one.paused_at is None]
    if not all_of_them:
        app.credentials(settings)
    if not at_work:
        raise VoucherSyncError(NONE_AT_WORK)
    return at_work


def _named(connections: list[StoredConnection], name: str) -> StoredConnection:
    for one in connections:
        if one.name == name and one.paused_at is None:
            return one
        if one.name == name:
            raise VoucherSyncError(
                f"connection {name} is paused: `voucher-sync connections resume {quote(name)}` first"
            )
    raise VoucherSyncError(f"there is no connection {name!r}: see `voucher-sync connections list`")
