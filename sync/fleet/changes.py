"""What people change of the set of connections: each is one transaction, and replicas are told by its commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import bindparam, func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from sync.connection.hotels import fingerprint
from sync.connection.tables import connections, freshness
from sync.core.errors import SettingsError, VoucherSyncError
from sync.core.plurals import plural
from sync.fleet.registry import CONNECTION_NAME, StoredConnection, load_present
from sync.fleet.tokens import TokenBox, TokenOf
from sync.fleet.unfinished import refuse_unfinished

MAX_NAME_LENGTH = 100
MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class NewConnection:
    """What somebody adds; without a client token it goes with the environment's."""

    name: str
    platform_address: str
    access_token: str
    client_token: str | None = None
    integration_id: str | None = None

    def __repr__(self) -> str:
        """Without its tokens."""
        return f"NewConnection({self.name!r})"


def why_no_name(name: str) -> str | None:
    """Why a connection cannot be called so; None if it can. The name stands in logs, metrics and command lines."""
    if not name or len(name) > MAX_NAME_LENGTH:
        return f"has {plural(len(name), 'character')}: give 1 to {MAX_NAME_LENGTH}"
    if name == CONNECTION_NAME:
        return "is that of the connection whose tokens the environment has: give it another one"
    if not name.isprintable() or name != name.strip() or name.startswith("-"):
        return "holds what cannot be shown, begins with a dash, or has a space at an end: give it another one"
    return None


async def add(
    tx: AsyncConnection, box: TokenBox, new: Sequence[NewConnection], origin: Literal["command", "webhook"]
) -> None:
    """Add connections, all of them or none. One that was removed comes back, with what it has mirrored.

    `VoucherSyncError` names those that are there already, by their name or by their token.
    """
    await tx.execute(_ONE_AT_A_TIME)
    present = await load_present(tx)
    await _refuse_known_tokens(tx, box, present, new)
    rows = [_row(box, one, origin) for one in new]
    added = await tx.execute(_ADD, rows)
    if added.rowcount != len(rows):
        await _refuse_known_names(tx, new, {one.name for one in present})


async def try_to_add(
    tx: AsyncConnection, box: TokenBox, new: Sequence[NewConnection], origin: Literal["command", "webhook"]
) -> None:
    """Raise what `add` would, and add nothing."""
    async with tx.begin_nested() as tried:
        await add(tx, box, new, origin)
        await tried.rollback()


async def _refuse_known_tokens(
    tx: AsyncConnection, box: TokenBox, present: Sequence[StoredConnection], new: Sequence[NewConnection]
) -> None:
    """Two connections of one token would read all of it twice, and share a budget. `present`: all others."""
    known: dict[bytes, str] = {}
    for one in await tx.execute(_FINGERPRINTS):
        known[one.token_fingerprint] = one.name
    for stored in present:
        if (token := _readable(box, stored)) is not None and stored.platform_address is not None:
            known[fingerprint(stored.platform_address, token)] = stored.name
    for given in new:
        other = known.setdefault(fingerprint(given.platform_address, given.access_token), given.name)
        if other != given.name:
            raise VoucherSyncError(f"connection {given.name}: {other} has the same access token: one of them is enough")


def _readable(box: TokenBox, stored: StoredConnection) -> str | None:
    try:
        return access_token_of(box, stored)
    except SettingsError:
        return None  # that is told of where it is to be used


def access_token_of(box: TokenBox, stored: StoredConnection) -> str | None:
    """The access token that the database has; None of the environment's. `SettingsError` where no key reads it."""
    if stored.access_token is None or stored.platform_address is None:
        return None
    return box.decrypt(stored.access_token, TokenOf(stored.name, stored.platform_address, "access"))


def _row(box: TokenBox, new: NewConnection, origin: str) -> dict[str, Any]:
    return {
        "new_name": new.name,
        "new_origin": origin,
        "new_address": new.platform_address,
        "new_integration": new.integration_id,
        **encrypted(box, new.name, new.platform_address, new.access_token, new.client_token),
    }


def encrypted(
    box: TokenBox, name: str, platform_address: str, access_token: str, client_token: str | None
) -> dict[str, bytes | None]:
    """Both tokens as they are kept, by the parameters of the statements here."""
    client = None if client_token is None else box.encrypt(client_token, TokenOf(name, platform_address, "client"))
    return {
        "new_access_token": box.encrypt(access_token, TokenOf(name, platform_address, "access")),
        "new_client_token": client,
    }


async def _refuse_known_names(tx: AsyncConnection, new: Sequence[NewConnection], present: set[str]) -> None:
    taken = sorted(one.name for one in new if one.name in present)
    if taken:
        more = f" and {plural(len(taken) - MAX_NAMED, 'other')}" if len(taken) > MAX_NAMED else ""
        raise VoucherSyncError(
            f"there already: {', '.join(taken[:MAX_NAMED])}{more}; nothing was added. `voucher-sync connections "
            f"rotate` gives one another token, `remove` takes it out"
        )
    raise VoucherSyncError(
        "one of these names was used for another platform address, or is just being added by somebody else; nothing "
        "was added: give it another name, or try again"
    )


async def pause(tx: AsyncConnection, name: str, because: str | None) -> bool:
    """Stop all work for a connection; whether that or its reason is new. `VoucherSyncError` where none has the name."""
    await require(tx, name)
    await tx.execute(_END_OUTAGE, {"of_name": name})
    return bool((await tx.execute(_PAUSE, {"of_name": name, "because": because})).rowcount)


async def resume(tx: AsyncConnection, name: str) -> bool:
    """Go on with a connection; whether it was paused. `VoucherSyncError` where there is none of the name."""
    await require(tx, name)
    return bool((await tx.execute(_RESUME, {"of_name": name})).rowcount)


async def rotate(tx: AsyncConnection, box: TokenBox, stored: StoredConnection, new: NewConnection) -> None:
    """Give a connection another access token, and another client token if one is given, which were tried before.

    `VoucherSyncError` where another connection has it, or somebody else has changed its tokens meanwhile.
    """
    await tx.execute(_ONE_AT_A_TIME)
    others = [one for one in await load_present(tx) if one.name != new.name]
    await _refuse_known_tokens(tx, box, others, [new])
    values = encrypted(box, new.name, new.platform_address, new.access_token, new.client_token)
    tried = fingerprint(new.platform_address, new.access_token)
    parameters = {"of_name": new.name, "old_access_token": stored.access_token, "tried": tried, **values}
    if not (await tx.execute(_ROTATE, parameters)).rowcount:
        raise VoucherSyncError(f"connection {new.name}: somebody has changed it meanwhile: see it, then try again")


async def remove(tx: AsyncConnection, name: str) -> None:
    """Take a connection out, and forget its tokens. What it has mirrored stays.

    `VoucherSyncError` where there is none of the name, or where changes that are queued for it are not finished: nobody
    would send them, and nobody would look up what became of those that were sent.
    """
    await require(tx, name)
    await refuse_unfinished(tx, name)
    await tx.execute(_END_OUTAGE, {"of_name": name})
    await tx.execute(_REMOVE, {"of_name": name})


async def reencrypt(tx: AsyncConnection, box: TokenBox) -> int:
    """Encrypt all tokens with the first key; how many connections have theirs here.

    `SettingsError` names a connection whose tokens no key reads; then none is changed.
    """
    locked = select(connections.c.name).where(connections.c.access_token.is_not(None)).with_for_update()
    await tx.execute(locked)
    stored = [one for one in await load_present(tx) if one.access_token is not None]
    rows = [{"of_name": one.name, **_encrypted_anew(box, one)} for one in stored]
    if rows:
        await tx.execute(_REENCRYPT, rows)
    return len(rows)


def _encrypted_anew(box: TokenBox, stored: StoredConnection) -> Mapping[str, bytes | None]:
    address = stored.platform_address or ""
    client_token = None
    if stored.client_token is not None:
        client_token = box.decrypt(stored.client_token, TokenOf(stored.name, address, "client"))
    return encrypted(box, stored.name, address, access_token_of(box, stored) or "", client_token)


async def require(tx: AsyncConnection, name: str) -> StoredConnection:
    """The connection of this name, its row locked. `VoucherSyncError` where there is none."""
    columns = (connections.c[one] for one in StoredConnection.__slots__)
    of_name = (connections.c.name == name, connections.c.removed_at.is_(None))
    query = select(*columns).where(*of_name).with_for_update()
    row = (await tx.execute(query)).mappings().one_or_none()
    if row is None:
        raise VoucherSyncError(f"there is no connection {name!r}: see `voucher-sync connections list`")
    return StoredConnection(**row)


# Else of two who give one token neither sees the other's. Only migrations write this row, and no stranger can lock it.
_ONE_AT_A_TIME = text("SELECT FROM sync.alembic_version FOR UPDATE")
_NEW = insert(connections).values(
    name=bindparam("new_name"),
    state="ok",
    origin=bindparam("new_origin"),
    platform_address=bindparam("new_address"),
    access_token=bindparam("new_access_token"),
    client_token=bindparam("new_client_token"),
    integration_id=bindparam("new_integration"),
    added_at=func.now(),
)
_CAME_BACK = {
    **{name: _NEW.excluded[name] for name in ("origin", "platform_address", "access_token", "client_token")},
    **{name: _NEW.excluded[name] for name in ("integration_id", "added_at", "state")},
    **dict.fromkeys(("error", "error_kind", "paused_at", "paused_because", "removed_at", "token_fingerprint")),
    "state_since": func.now(),
}
_ADD = _NEW.on_conflict_do_update(
    index_elements=[connections.c.name],
    set_=_CAME_BACK,
    # What it has mirrored is the other address's: ids are unique within one of the vendor's environments only.
    where=connections.c.removed_at.is_not(None)
    & or_(connections.c.platform_address.is_(None), connections.c.platform_address == _NEW.excluded.platform_address),
)
_FINGERPRINTS = select(connections.c.name, connections.c.token_fingerprint).where(
    connections.c.origin == "environment",
    connections.c.token_fingerprint.is_not(None),
    connections.c.removed_at.is_(None),
)
_OF_NAME = connections.c.name == bindparam("of_name")
_PAUSE = (
    update(connections)
    .where(
        _OF_NAME,
        or_(connections.c.paused_at.is_(None), connections.c.paused_because.is_distinct_from(bindparam("because"))),
    )
    .values(paused_at=func.coalesce(connections.c.paused_at, func.now()), paused_because=bindparam("because"))
)
_RESUME = (
    update(connections)
    .where(_OF_NAME, connections.c.paused_at.is_not(None))
    .values(paused_at=None, paused_because=None)
)
_ROTATE = (
    update(connections)
    .where(_OF_NAME, connections.c.access_token == bindparam("old_access_token"), connections.c.removed_at.is_(None))
    .values(
        access_token=bindparam("new_access_token"),
        client_token=func.coalesce(bindparam("new_client_token"), connections.c.client_token),
        token_fingerprint=bindparam("tried"),
    )
)
_REMOVE = (
    update(connections)
    .where(_OF_NAME)
    .values(
        removed_at=func.now(),
        access_token=None,
        client_token=None,
        paused_at=None,
        paused_because=None,
        owner=None,
        place=None,
        # What its owner has told stands in its own row from now on.
        **{
            name: select(freshness.c[name]).where(freshness.c.name == connections.c.name).scalar_subquery()
            for name in ("heartbeat_at", "caught_up_as_of", "caught_up_through")
        },
    )
)
# From here on nobody tries whether it fails still: it would be told as one that goes on, for months or for ever.
_END_OUTAGE = text("UPDATE sync.outages SET ended_at = now() WHERE connection = :of_name AND ended_at IS NULL")
_REENCRYPT = (
    update(connections)
    .where(_OF_NAME)
    .values(access_token=bindparam("new_access_token"), client_token=bindparam("new_client_token"))
)
